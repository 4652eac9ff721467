-- What the scripts that go by the names of counters share: the counters of scopes, and what ends a charge. Needs time.lua.
-- Counters are read once, changed in memory and written once, at the end: a script that fails half way has written
-- nothing.
--
-- A scope's counters are one string, a MessagePack map:
--   x             -> when the last of them ends
--   <budget name> -> {start, end (0: never), spent, held, epoch}
--   <rate name>   -> {bucket, current, previous, held}
-- `held` is the part that open reservations may still give back. Times are milliseconds since 1970, money is nano-USD.
-- Numbers are exact to 2^53. Entries are written in this order, by name, and all numbers in eight bytes: reserve.lua reads
-- such a map by `struct`, in a tenth of the time. Every other order and size means the same, as other versions write it.

-- Counters by key; what was read but not looked at yet; and those that changed, with whether they last longer than before.
local states, fetched, changed = {}, {}, {}

-- The name of data that begin now. Later ones sort after earlier ones; `fresh` tells apart those of one millisecond.
local function birth_of(fresh)
  return string.format('%013.0f-%s', now, fresh)
end

local function decoded(raw)
  return raw and cmsgpack.unpack(raw) or {}
end

-- The counters of a scope.
local function state(key)
  local known = states[key]
  if not known then
    local raw = fetched[key]
    if raw == nil then
      raw = redis.call('GET', key)
    end
    known = decoded(raw)
    states[key] = known
  end
  return known
end

local function encoded(counters)
  local names = {}
  for name in pairs(counters) do
    if name ~= 'x' then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  local layout, row = '>Bc3d', {129 + #names, '\161x\203', counters.x or 0}
  for _, name in ipairs(names) do
    local found = counters[name]
    local start, last = string.char(160 + #name) .. name .. string.char(144 + #found, 203), #row + 1
    layout = layout .. 'c' .. #start .. string.rep('dB', #found - 1) .. 'd'
    row[last] = start
    for part = 1, #found do
      row[last + 2 * part - 1], row[last + 2 * part] = found[part], 203
    end
    row[#row] = nil
  end
  return struct.pack(layout, unpack(row))
end

-- Writes what was changed.
local function save()
  for key, is_longer in pairs(changed) do
    local counters = states[key]
    local ends = counters.x or 0
    if ends >= NEVER then
      redis.call('SET', key, encoded(counters))
    elseif ends <= now then
      redis.call('DEL', key)
    elseif is_longer then
      redis.call('SET', key, encoded(counters), 'PX', ends - now + SLACK)
    else
      redis.call('SET', key, encoded(counters), 'KEEPTTL')
    end
  end
  changed = {}
end

local function touch(key, counters, ends)
  if ends > (counters.x or 0) then
    counters.x = ends
    changed[key] = true
  elseif not changed[key] then
    changed[key] = false
  end
end

-- The window of a rate, moved on to now.
local function window(counters, name, span)
  local bucket, found = (now - now % span) / span, counters[name]
  if not found then
    found = {bucket, 0, 0, 0}
    counters[name] = found
  elseif bucket > found[1] then
    found[3] = bucket == found[1] + 1 and found[2] or 0
    found[2] = 0
    found[1] = bucket
  end
  return found
end

-- Where the period that holds `at` begins and ends. `bounds` is where periods in a row begin, the last one's end last.
local function period(bounds, at)
  local start = bounds[1]
  if at < start then
    return nil
  end
  for next = 2, #bounds do
    if bounds[next] == 0 or at < bounds[next] then
      return start, bounds[next]
    end
    start = bounds[next]
  end
  return nil
end

-- The spending of a budget in its current period; nil: `bounds` does not reach to now. A clock that steps back and
-- another time zone do not make a budget new: only the end of the period does.
local function spending(counters, name, bounds)
  local found = counters[name]
  local start, ends = period(bounds, now)
  if not found or (found[2] > 0 and now >= found[2]) then
    if not start then
      return nil
    end
    found = {start, ends, 0, 0, start}
    counters[name] = found
  elseif start and start >= found[1] then
    found[1], found[2] = start, ends
  end
  return found
end

local function lasting(ends)
  return ends == 0 and NEVER or ends
end

-- What really counts against a rate. Its name begins with what it counts.
local function counted(name, used)
  local first = string.byte(name)
  if first == 114 then -- requests
    return 1
  elseif first == 116 then -- tokens
    return used[1] + used[2]
  elseif first == 105 then -- input
    return used[1]
  end
  return used[2]
end

-- Charges what a scope claims: {.., .., .., budgets (0: none), then name, span, capacity, pair and amount of one rate after
-- the other}; budget: {name, limit, amount, blocks, bounds}. Returns the charge, to be ended by `conclude`, in one list:
-- {counters, slots, where its rates end, name, span, bucket and amount of each rate, name, epoch and amount of each
-- budget}; nil: the bounds of a budget do not reach to now.
local function charge(key, slots, scope)
  local counters, done, last = state(key), {key, slots, 0}, 3
  for at = 5, #scope, 5 do
    local name, span, amount = scope[at], scope[at + 1], scope[at + 4]
    local found = window(counters, name, span)
    found[2] = found[2] + amount
    found[4] = found[4] + amount
    done[last + 1], done[last + 2], done[last + 3], done[last + 4] = name, span, found[1], amount
    last = last + 4
    touch(key, counters, (found[1] + 2) * span)
  end
  done[3] = last
  if scope[4] == 0 then
    return done
  end
  for _, budget in ipairs(scope[4]) do
    local name, amount = budget[1], budget[3]
    local found = spending(counters, name, budget[5])
    if not found then
      return nil
    end
    found[3] = found[3] + amount
    found[4] = found[4] + amount
    done[last + 1], done[last + 2], done[last + 3] = name, found[5], amount
    last = last + 3
    touch(key, counters, lasting(found[2]))
  end
  return done
end

local function without(value, amount)
  return value > amount and value - amount or 0
end

-- Ends what a charge counts: 'used' with {input, output, cost}, 'never' (it did not run: nothing stays), 'unknown' (it
-- ran: request and money stay), 'expired' (its holder died: the money stays). The slot is for the caller to free. A charge of
-- reserve.lua has the layout of its counters at its end, which is the name of no budget.
local function conclude(done, outcome, used)
  local key, rates_end = done[1], done[3]
  local counters = state(key)
  for n = 4, rates_end, 4 do
    local name, span, bucket, amount = done[n], done[n + 1], done[n + 2], done[n + 3]
    local real = 0
    if outcome == 'used' then
      real = counted(name, used)
    elseif outcome == 'unknown' and string.byte(name) == 114 then
      real = amount
    end
    local found = window(counters, name, span)
    local at = found[1] == bucket and 2 or (found[1] == bucket + 1 and 3 or nil)
    if at then
      found[at] = without(found[at], amount) + real
    end
    found[4] = without(found[4], amount)
    touch(key, counters, (found[1] + 2) * span)
  end
  for n = rates_end + 1, #done, 3 do
    local epoch, amount = done[n + 1], done[n + 2]
    local found = counters[done[n]]
    if found and found[5] == epoch then
      local real = amount
      if outcome == 'used' then
        real = used[3]
      elseif outcome == 'never' then
        real = 0
      end
      found[3] = without(found[3], amount) + real
      found[4] = without(found[4], amount)
      touch(key, counters, lasting(found[2]))
    end
  end
end
