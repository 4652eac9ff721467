-- Decides everything that a request claims within one domain, then writes all or nothing.
--
-- KEYS: born, holds, leases, breakers, seeded, then the counters that claims name by their index, then their slots.
-- ARGV[1]: values one after the other, or, where they are very many, one list of them: id, born as known, born to be,
--   process, must seed, lease, peek, candidates wanted, counters, scopes, candidates, breakers asked for (none, or one of
--   each candidate: '' where it has none), the charges of the scopes; then the breakers, the scopes, and of each candidate:
--   scopes, their charges, and the scopes.
--   scope:  counters, slots (0: none), concurrency (-1: none), how many bytes its counters take, how they are laid out,
--           budgets, rates; then
--           of each budget: how its counters begin, limit, blocks, four bounds, epoch as charged, amount;
--           of each rate:   how its counters begin, span, capacity, pair (0: whatever), bucket as charged, amount
--   Charges are as `charge` makes them (see common.lua), a list of them in MessagePack; that of the scopes begins a pair of
--   lists. Whoever asks guesses what Redis' clock decides.
-- Answer, one after the other: status, now, born, states of scopes; open candidates, which; closed candidates, of each its
--   states; open breakers, of each: candidate, until, class. Whatever there may be several of begins with how many.
--   state: in flight, counters as they are stored
--
-- Runs for every request. In Lua a table that grows and a function cost as much as a command, so what is told stays in the
-- one row in which it came, and counters in the row in which `struct` reads them (see common.lua): how many entries, 'x',
-- when the last of them ends, what the claim names in its order, what it does not name, and the layout.
--   budget: how it begins, start, 203, end, 203, spent, 203, held, 203, epoch
--   rate:   how it begins, bucket, 203, current, 203, previous, 203, held
-- 203 says that a number follows.

local GRANTED, REFUSED, REBORN, CLOCK, TAKEN = 0, 1, 2, 3, 4
local MOST_ENDED = 1000
-- 400 days: longer than any period but `Total`.
local SEEDED_KEPT = 34560000000
-- Where breakers are told, where a scope's first rule is told and kept; how much is told and kept of a budget and a rate.
local HEAD, TOLD, KEPT = 14, 7, 4
local BUDGET_TOLD, RATE_TOLD, BUDGET_KEPT, RATE_KEPT = 9, 6, 10, 8

local call, pack, ask = redis.call, cmsgpack.pack, {cmsgpack.unpack(ARGV[1])}
if #ask == 1 then
  ask = ask[1]
end
local many = ask[9]

-- What is stored by counters, the first after `born`; later their rows.
local found = call('MGET', KEYS[1], unpack(KEYS, 6, 5 + many))
local born = found[1] or string.format('%013.0f-%s', now, ask[3])

if born ~= ask[2] and ask[7] == 0 then
  if not found[1] then
    call('SET', KEYS[1], born)
  end
  if ask[5] == 1 and call('HEXISTS', KEYS[5], ask[4]) == 0 then
    return pack(REBORN, now, born, 0, 0, 0, 0)
  end
  call('HSETNX', KEYS[5], ask[4], 1)
  call('PEXPIRE', KEYS[5], SEEDED_KEPT)
end

-- Written out once: whoever calls a command with a number has it written out each time.
local now_text = string.format('%.0f', now)

if call('ZCOUNT', KEYS[3], '-inf', now_text) > 0 then
  local ended = call('ZRANGEBYSCORE', KEYS[3], '-inf', now_text, 'LIMIT', 0, MOST_ENDED)
  -- Ends the reservations whose holders have not been heard of.
  --@common
  local freed = {}
  for _, gone in ipairs(ended) do
    local hold = decoded(call('HGET', KEYS[2], gone))
    for _, part in ipairs({hold[1] or {}, hold[2] or {}}) do
      for _, done in ipairs(part) do
        conclude(done, 'expired')
        freed[#freed + 1] = {done[2], gone}
      end
    end
  end
  save()
  for _, slot in ipairs(freed) do
    if slot[1] ~= '' then
      call('ZREM', slot[1], slot[2])
    end
  end
  call('HDEL', KEYS[2], unpack(ended))
  call('ZREM', KEYS[3], unpack(ended))
  found = call('MGET', KEYS[1], unpack(KEYS, 6, 5 + many))
end

-- The counters of the scope that is told at `at`.
local function counters(at)
  local place, text, layout = ask[at] + 1, found[ask[at] + 1], ask[at + 4]
  local budgets, rates = ask[at + 5], ask[at + 6]
  local last = KEPT + budgets * BUDGET_KEPT + rates * RATE_KEPT
  if type(text) == 'table' then
    if text[last] == layout then
      return text
    end
    -- The same counters under other rules: only as they are stored they say which is which.
    text = struct.pack(text[#text], unpack(text))
  end
  if text and #text == ask[at + 3] then
    local row, told, kept = {struct.unpack(layout, text)}, at + TOLD, KEPT
    local is_so = true
    for _ = 1, budgets do
      is_so = is_so and row[kept] == ask[told]
      told, kept = told + BUDGET_TOLD, kept + BUDGET_KEPT
    end
    for _ = 1, rates do
      is_so = is_so and row[kept] == ask[told]
      told, kept = told + RATE_TOLD, kept + RATE_KEPT
    end
    if is_so then
      row[last], found[place] = layout, row
      return row
    end
  end
  -- Nothing is stored, or what another version or other rules have written.
  local stored = text and cmsgpack.unpack(text) or {}
  local row, entries, told = {0, '\161x\203', stored.x or 0}, 1, at + TOLD
  stored.x = nil
  local function add(start, parts)
    entries = entries + 1
    row[#row + 1] = start
    for n, part in ipairs(parts) do
      if n > 1 then
        row[#row + 1] = 203
      end
      row[#row + 1] = part
    end
  end
  for n = 1, budgets + rates do
    local start = ask[told]
    local name = string.sub(start, 2, -3)
    -- A budget that is not there is like one whose period is long over.
    add(start, stored[name] or (n <= budgets and {0, 1, 0, 0, 0} or {0, 0, 0, 0}))
    stored[name] = nil
    told = told + (n <= budgets and BUDGET_TOLD or RATE_TOLD)
  end
  for name, parts in pairs(stored) do
    local start = string.char(160 + #name) .. name .. string.char(144 + #parts, 203)
    add(start, parts)
    layout = layout .. 'c' .. #start .. string.rep('dB', #parts - 1) .. 'd'
  end
  row[1] = 128 + entries
  row[#row + 1], found[place] = layout, row
  return row
end

-- Where what comes after a scope begins.
local function after(at)
  return at + TOLD + ask[at + 5] * BUDGET_TOLD + ask[at + 6] * RATE_TOLD
end

local in_flight = {}

local function flying(slots)
  local count = in_flight[slots]
  if not count then
    -- Those that are over are removed with their reservations, or by the exchange that put them there.
    count = call('ZCOUNT', KEYS[5 + many + slots], '(' .. now_text, '+inf')
    in_flight[slots] = count
  end
  return count
end

-- Moves the counters of so many scopes on to now. Says whether they let their claims in, and where they end; nil: the
-- bounds of a budget do not reach to now.
local function all_open(at, count)
  local let_in = true
  for _ = 1, count do
    local row, told, kept = counters(at), at + TOLD, KEPT
    for _ = 1, ask[at + 5] do
      -- Where the period that holds now begins and ends. Bounds are where periods in a row begin, the last one is an end;
      -- an end of 0 never comes.
      local start, ends = nil, nil
      if now >= ask[told + 3] then
        for bound = told + 4, told + 6 do
          if ask[bound] == 0 or now < ask[bound] then
            start, ends = ask[bound - 1], ask[bound]
            break
          end
        end
      end
      -- A clock that steps back and another time zone do not make a budget new: only the end of the period does.
      local known_end = row[kept + 3]
      if known_end > 0 and now >= known_end then
        if not start then
          return nil
        end
        row[kept + 1], row[kept + 3], row[kept + 5], row[kept + 7], row[kept + 9] = start, ends, 0, 0, start
      elseif start and start >= row[kept + 1] then
        row[kept + 1], row[kept + 3] = start, ends
      end
      if ask[told + 2] == 1 and row[kept + 5] + ask[told + 8] > ask[told + 1] then
        let_in = false
      end
      told, kept = told + BUDGET_TOLD, kept + BUDGET_KEPT
    end
    for _ = 1, ask[at + 6] do
      local span, amount, current, previous = ask[told + 1], ask[told + 5], row[kept + 3], row[kept + 5]
      local gone, known = now % span, row[kept + 1]
      local bucket = (now - gone) / span
      if bucket > known then
        current, previous = 0, bucket == known + 1 and current or 0
        row[kept + 1], row[kept + 3], row[kept + 5] = bucket, current, previous
      end
      -- The part of the earlier bucket that is still covered, rounded up. In two steps, so that no product exceeds 2^53.
      local rest, covered, pair = previous % span, span - gone, ask[told + 3]
      local share = (previous - rest) / span * covered + math.ceil(rest * covered / span)
      if current + share + amount > ask[told + 2] or (pair ~= 0 and current + previous + amount > pair) then
        let_in = false
      end
      told, kept = told + RATE_TOLD, kept + RATE_KEPT
    end
    if ask[at + 2] >= 0 and flying(ask[at + 1]) >= ask[at + 2] then
      let_in = false
    end
    at = told
  end
  return let_in, at
end

-- So many scopes as an answer tells of them, once their counters change no more.
local function shown(at, count)
  local text = pack(count)
  for _ = 1, count do
    local row, slots = counters(at), ask[at + 1]
    text = text .. pack(slots > 0 and flying(slots) or 0, struct.pack(row[#row], unpack(row)))
    at = after(at)
  end
  return text
end

local scopes, candidates, breakers = ask[10], ask[11], ask[12]
local first = HEAD + breakers
local let_in, at = all_open(first, scopes)
if let_in == nil then
  return pack(CLOCK, now, born, 0, 0, 0, 0)
end
if ask[7] == 1 then
  return pack(GRANTED, now, born) .. shown(first, scopes) .. pack(0, 0, 0)
end

-- Breakers that other replicas have opened, as an answer tells of them.
local broken, broken_count, records = '', 0, nil
if breakers > 0 then
  records = call('HMGET', KEYS[4], unpack(ask, HEAD, HEAD + breakers - 1))
  for n = 1, breakers do
    local ends, class = string.match(records[n] or '', '^o (%d+) (%S+)$')
    records[n] = ends and tonumber(ends) > now
    if records[n] then
      broken, broken_count = broken .. pack(n - 1, tonumber(ends), class), broken_count + 1
    end
  end
end

-- The open candidates, and where the first of them is told. One whose breaker is open is there for when no other is.
local ready, ready_count, chosen, resort, resort_count, resort_chosen = '', 0, nil, '', 0, nil
local candidate = at
for n = 1, candidates do
  if ready_count >= ask[8] then
    break
  end
  local one, next = all_open(candidate + 2, ask[candidate])
  if one == nil then
    return pack(CLOCK, now, born, 0, 0, 0, 0)
  elseif one and records and records[n] then
    resort, resort_count, resort_chosen = resort .. pack(n - 1), resort_count + 1, resort_chosen or candidate
  elseif one then
    ready, ready_count, chosen = ready .. pack(n - 1), ready_count + 1, chosen or candidate
  end
  candidate = next
end
if ready_count == 0 then
  ready, ready_count, chosen = resort, resort_count, resort_chosen
end

if not let_in or (candidates > 0 and ready_count == 0) then
  local parts = {pack(REFUSED, now, born), shown(first, scopes), pack(ready_count), ready}
  if ready_count == 0 then
    parts[5], candidate = pack(candidates), at
    for n = 1, candidates do
      parts[5 + n] = shown(candidate + 2, ask[candidate])
      candidate = candidate + 2
      for _ = 1, ask[candidate - 2] do
        candidate = after(candidate)
      end
    end
  else
    parts[5] = pack(0)
  end
  return table.concat(parts) .. pack(broken_count) .. broken
end

-- Whether the guesses of so many scopes are right; puts the charges right where they are not.
local function guessed(at, count, charges)
  local is_right = true
  for n = 1, count do
    local row, told, kept, place = counters(at), at + TOLD, KEPT, 5 + 4 * ask[at + 6]
    for _ = 1, ask[at + 5] do
      local epoch = row[kept + 9]
      if charges then
        charges[n][place] = epoch
      end
      is_right = is_right and epoch == ask[told + 7]
      told, kept, place = told + BUDGET_TOLD, kept + BUDGET_KEPT, place + 3
    end
    place = 6
    for _ = 1, ask[at + 6] do
      local bucket = row[kept + 1]
      if charges then
        charges[n][place] = bucket
      end
      is_right = is_right and bucket == ask[told + 4]
      told, kept, place = told + RATE_TOLD, kept + RATE_KEPT, place + 4
    end
    at = told
  end
  return is_right
end

-- An empty list where no candidate is needed.
local hold = ask[13] .. (chosen and ask[chosen + 1] or '\144')
local is_right = guessed(first, scopes)
if chosen then
  is_right = guessed(chosen + 2, ask[chosen]) and is_right
end
if not is_right then
  hold = cmsgpack.unpack(hold)
  guessed(first, scopes, hold[1])
  if chosen then
    guessed(chosen + 2, ask[chosen], hold[2])
  end
  hold = pack(hold)
end
local id, lease_ends = ask[1], string.format('%.0f', now + ask[6])
if call('HSETNX', KEYS[2], id, hold) == 0 then
  return pack(TAKEN, now, born, 0, 0, 0, 0)
end
call('ZADD', KEYS[3], lease_ends, id)

-- Charges so many scopes what they claim. Tells of them as `shown`.
local function charged(at, count)
  local text = pack(count)
  for _ = 1, count do
    local row, slots, key, told, kept = counters(at), ask[at + 1], KEYS[5 + ask[at]], at + TOLD, KEPT
    local ends, flies = row[3], 0
    for _ = 1, ask[at + 5] do
      local amount, over = ask[told + 8], row[kept + 3]
      row[kept + 5], row[kept + 7] = row[kept + 5] + amount, row[kept + 7] + amount
      if over == 0 then
        over = NEVER
      end
      if over > ends then
        ends = over
      end
      told, kept = told + BUDGET_TOLD, kept + BUDGET_KEPT
    end
    for _ = 1, ask[at + 6] do
      local amount, over = ask[told + 5], (row[kept + 1] + 2) * ask[told + 1]
      row[kept + 3], row[kept + 7] = row[kept + 3] + amount, row[kept + 7] + amount
      if over > ends then
        ends = over
      end
      told, kept = told + RATE_TOLD, kept + RATE_KEPT
    end
    local is_longer = ends > row[3]
    row[3] = ends
    local counted = struct.pack(row[#row], unpack(row))
    if slots > 0 then
      flies = flying(slots) + 1
      in_flight[slots] = flies
      call('ZADD', KEYS[5 + many + slots], lease_ends, id)
    end
    if kept > KEPT then
      if ends >= NEVER then
        call('SET', key, counted)
      elseif is_longer then
        call('SET', key, counted, 'PX', ends - now + SLACK)
      else
        call('SET', key, counted, 'KEEPTTL')
      end
    end
    text = text .. pack(flies, counted)
    at = told
  end
  return text
end

local states = charged(first, scopes)
if chosen then
  charged(chosen + 2, ask[chosen])
end
return pack(GRANTED, now, born) .. states .. pack(ready_count) .. ready .. pack(0, broken_count) .. broken
