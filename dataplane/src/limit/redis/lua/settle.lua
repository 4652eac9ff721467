-- Applies a batch of what became of reservations, once: a batch that was applied before changes nothing.
--
-- KEYS: born, holds, leases, batch.
-- ARGV[1]: values one after the other: batch, lease, born to be, how many reservations are over and used so much, their ids,
--   input, output and cost of each; then a list of entries, which come before those:
--   {'r', id, begun, doubtful}              it is over, and nobody knows what it used. Doubtful: it may not have come yet,
--                                           and must not be taken when it does
--   {'a', id, begun, scopes}                another candidate is tried; scope: {counters, slots or '', ..} as for `charge`
--   {'n', id, lease}                        its holder lives
--   {'p', scopes}                           so much was used without a reservation; scope: {counters, rates, budgets},
--                                           rate: {name, span, at, amount}, budget: {name, at, amount, bounds}
-- Answer: {now, born, ids that are not known}
--
-- Nearly all batches are of what is over and was used, in counters that are laid out as it was reserved: for these, what is
-- told and counted stays in rows, as in reserve.lua. Every other batch goes by the names of counters.

local BATCH_KEPT = '86400000'
-- Where the first id is told; where a row's first rule is, and how much of it a budget and a rate take.
local FIRST, KEPT, BUDGET_KEPT, RATE_KEPT = 5, 4, 10, 8
-- As many keys as one call reads at once.
local MOST_KEYS = 1000
-- What became of a row.
local CHANGED, LONGER = 1, 2

local call, pack, told = redis.call, cmsgpack.pack, {cmsgpack.unpack(ARGV[1])}
local batch, lease, count = told[1], told[2], told[4]
local used, entries = FIRST + count, told[FIRST + 4 * count]
local unknown = {}

local read = call('MGET', KEYS[1], KEYS[4])
local born, last = read[1], read[2] and cmsgpack.unpack(read[2]) or {}

local function answer()
  return pack({now, born, unknown})
end

-- The last batch, and what was not known of it: whoever asks again must hear the same.
if born and (last[1] or 0) >= batch then
  unknown = last[2]
  return answer()
end

-- The counters of a charge in a row; nil: they are laid out in another way than when it was reserved.
local function row_of(done, budgets, text)
  local layout = done[#done]
  if not text or struct.size(layout) ~= #text then
    return nil
  end
  local row, rates_end, kept = {struct.unpack(layout, text)}, done[3], KEPT
  local last = KEPT + BUDGET_KEPT * budgets + RATE_KEPT * (rates_end - 3) / 4
  -- Another version may have written numbers of other kinds in as many bytes: then `x` is one of them.
  if row[last] ~= #text + 1 or row[2] ~= '\161x\203' then
    return nil
  end
  for n = rates_end + 1, rates_end + 3 * budgets, 3 do
    local start, name = row[kept], done[n]
    if string.find(start, name, 2, true) ~= 2 or #start ~= #name + 3 then
      return nil
    end
    kept = kept + BUDGET_KEPT
  end
  for n = 4, rates_end, 4 do
    local start, name = row[kept], done[n]
    if string.find(start, name, 2, true) ~= 2 or #start ~= #name + 3 then
      return nil
    end
    kept = kept + RATE_KEPT
  end
  row[last] = layout
  return row
end

-- Ends a charge whose holder used so much, as `conclude` does. Returns whether its row is to be written: CHANGED, or LONGER
-- if it lasts longer than before; nil: it is not.
local function conclude_row(row, done, budgets, input, output, cost)
  local rates_end, kept, ends, change = done[3], KEPT, row[3], nil
  for n = rates_end + 1, rates_end + 3 * budgets, 3 do
    if row[kept + 9] == done[n + 1] then
      local amount, spent, held, over = done[n + 2], row[kept + 5], row[kept + 7], row[kept + 3]
      row[kept + 5] = (spent > amount and spent - amount or 0) + cost
      row[kept + 7] = held > amount and held - amount or 0
      if over == 0 then
        over = NEVER
      end
      if over > ends then
        ends = over
      end
      change = CHANGED
    end
    kept = kept + BUDGET_KEPT
  end
  for n = 4, rates_end, 4 do
    local span, bucket, amount = done[n + 1], done[n + 2], done[n + 3]
    local present, known, held = (now - now % span) / span, row[kept + 1], row[kept + 7]
    if present > known then
      row[kept + 5] = present == known + 1 and row[kept + 3] or 0
      row[kept + 1], row[kept + 3], known = present, 0, present
    end
    local at = known == bucket and kept + 3 or (known == bucket + 1 and kept + 5)
    if at then
      local first, count = string.byte(done[n]), row[at]
      -- Its name begins with what it counts: requests, tokens, input or output.
      local real = first == 114 and 1 or first == 116 and input + output or first == 105 and input or output
      row[at] = (count > amount and count - amount or 0) + real
    end
    row[kept + 7] = held > amount and held - amount or 0
    if (known + 2) * span > ends then
      ends = (known + 2) * span
    end
    change, kept = CHANGED, kept + RATE_KEPT
  end
  if ends > row[3] then
    row[3] = ends
    return LONGER
  end
  return change
end

-- How many budgets a charge has; nil: it names no counters.
local function budgets_of(done)
  local rest = #done - done[3]
  if rest > 1 or done[3] > 3 then
    return (rest - 1) / 3
  end
  return nil
end

-- Applies a batch of what is over and was used. False, before anything is written: it goes by names.
local function is_applied()
  if not born or entries then
    return false
  end
  local holds = call('HMGET', KEYS[2], unpack(told, FIRST, used - 1))
  -- The keys of counters, where each of them is, and what became of them. A list that grows is copied each time.
  local keys, places, many, changes = {0, 0, 0, 0, 0, 0, 0, 0}, {}, 0, {0, 0, 0, 0, 0, 0, 0, 0}
  for n = 1, count do
    local hold = holds[n]
    if hold then
      hold = cmsgpack.unpack(hold)
      holds[n] = hold
      for part = 1, #hold do
        local charges = hold[part]
        for at = 1, #charges do
          local done = charges[at]
          local key, budgets = done[1], budgets_of(done)
          -- A charge that another version made has no layout at its end.
          if budgets and budgets % 1 ~= 0 then
            return false
          end
          if budgets and not places[key] then
            many = many + 1
            places[key], keys[many], changes[many] = many, key, 0
          end
        end
      end
    else
      unknown[#unknown + 1] = told[FIRST + n - 1]
    end
  end
  if many > MOST_KEYS then
    return false
  end
  local rows, slots = many > 0 and call('MGET', unpack(keys, 1, many)), {}
  for n = 1, count do
    local id, hold, at_used = told[FIRST + n - 1], holds[n], used + 3 * (n - 1)
    for part = 1, hold and #hold or 0 do
      local charges = hold[part]
      for at = 1, #charges do
        local done = charges[at]
        local budgets, place, set = budgets_of(done), places[done[1]], done[2]
        if budgets then
          local row = rows[place]
          if type(row) ~= 'table' then
            row = row_of(done, budgets, row)
            if not row then
              return false
            end
            rows[place] = row
          elseif row[#row] ~= done[#done] then
            return false
          end
          local change = conclude_row(row, done, budgets, told[at_used], told[at_used + 1], told[at_used + 2])
          if change and change > changes[place] then
            changes[place] = change
          end
        end
        if set ~= '' then
          local members = slots[set]
          if members then
            members[#members + 1] = id
          else
            slots[set] = {id}
          end
        end
      end
    end
  end
  for place = 1, many do
    if changes[place] > 0 then
      local row, key = rows[place], keys[place]
      local text, ends = struct.pack(row[#row], unpack(row)), row[3]
      if ends >= NEVER then
        call('SET', key, text)
      elseif ends <= now then
        call('DEL', key)
      elseif changes[place] == LONGER then
        call('SET', key, text, 'PX', ends - now + SLACK)
      else
        call('SET', key, text, 'KEEPTTL')
      end
    end
  end
  for set, members in pairs(slots) do
    call('ZREM', set, unpack(members))
  end
  call('ZREM', KEYS[3], unpack(told, FIRST, used - 1))
  call('HDEL', KEYS[2], unpack(told, FIRST, used - 1))
  return true
end

if not is_applied() then
  --@common
  -- What becomes of reservations, and of members of sorted sets: false is to be removed.
  local written, members = {}, {}
  unknown = {}

  -- What the reservations of this batch hold, by id; false: they are not known, or over.
  local function open_holds()
    local ids, open = {unpack(told, FIRST, used - 1)}, {}
    for _, entry in ipairs(entries or {}) do
      if entry[1] ~= 'p' then
        ids[#ids + 1] = entry[2]
      end
    end
    if #ids > 0 then
      for at, raw in ipairs(call('HMGET', KEYS[2], unpack(ids))) do
        open[ids[at]] = raw and cmsgpack.unpack(raw)
      end
    end
    return open
  end

  local holds = open_holds()
  local renewed = string.format('%.0f', now + lease)

  -- A member of a sorted set gets this score; false: it is removed. Written at the end.
  local function place(set, id, score)
    local known = members[set]
    if not known then
      known = {}
      members[set] = known
    end
    known[id] = score
  end

  local function conclude_all(id, charges, outcome, used)
    for _, done in ipairs(charges or {}) do
      conclude(done, outcome, used)
      if done[2] ~= '' then
        place(done[2], id, false)
      end
    end
  end

  local function finish(id, outcome, used)
    local found = holds[id]
    conclude_all(id, found[1], outcome, used)
    conclude_all(id, found[2], outcome, used)
    holds[id], written[id] = false, false
    place(KEYS[3], id, false)
  end

  local function settle(id, used)
    if holds[id] then
      finish(id, 'used', used)
    else
      unknown[#unknown + 1] = id
    end
  end

  local apply = {}

  function apply.r(entry)
    local id, begun, doubtful = entry[2], entry[3], entry[4]
    if holds[id] then
      finish(id, begun == 1 and 'unknown' or 'never')
    elseif doubtful == 1 then
      written[id] = {}
      place(KEYS[3], id, renewed)
    else
      unknown[#unknown + 1] = id
    end
  end

  function apply.a(entry)
    local id, begun = entry[2], entry[3]
    local found = holds[id]
    if not found then
      return
    end
    conclude_all(id, found[2], begun == 1 and 'unknown' or 'never')
    local charges, ends = {}, call('ZSCORE', KEYS[3], id) or renewed
    for at, scope in ipairs(entry[4]) do
      charges[at] = charge(scope[1], scope[2], scope) or {scope[1], scope[2], 3}
      if scope[2] ~= '' then
        place(scope[2], id, ends)
      end
    end
    found[2], written[id] = charges, found
  end

  function apply.n(entry)
    local id = entry[2]
    local found = holds[id]
    if not found then
      return
    end
    local ends = string.format('%.0f', now + entry[3])
    place(KEYS[3], id, ends)
    for _, part in ipairs({found[1] or {}, found[2] or {}}) do
      for _, done in ipairs(part) do
        if done[2] ~= '' then
          place(done[2], id, ends)
        end
      end
    end
  end

  local function add_rate(key, counters, name, span, at, amount)
    local found = window(counters, name, span)
    local behind = found[1] - math.floor(at / span)
    local place = behind <= 0 and 2 or (behind == 1 and 3 or nil)
    if place then
      found[place] = found[place] + amount
      touch(key, counters, (found[1] + 2) * span)
    end
  end

  local function add_budget(key, counters, name, at, amount, bounds)
    local found = spending(counters, name, bounds)
    if found and (at >= found[1] or found[1] == 0) then
      found[3] = math.max(0, found[3] + amount)
      touch(key, counters, lasting(found[2]))
    end
  end

  function apply.p(entry)
    for _, scope in ipairs(entry[2]) do
      local key, counters = scope[1], state(scope[1])
      for _, rate in ipairs(scope[2]) do
        add_rate(key, counters, rate[1], rate[2], rate[3], rate[4])
      end
      for _, budget in ipairs(scope[3]) do
        add_budget(key, counters, budget[1], budget[2], budget[3], budget[4])
      end
    end
  end

  local function write_members()
    for set, scores in pairs(members) do
      local added, removed = {}, {}
      for id, score in pairs(scores) do
        if score then
          added[#added + 1] = score
          added[#added + 1] = id
        else
          removed[#removed + 1] = id
        end
      end
      if #added > 0 then
        call('ZADD', set, unpack(added))
      end
      if #removed > 0 then
        call('ZREM', set, unpack(removed))
      end
    end
  end

  local function write_holds()
    local kept, removed = {}, {}
    for id, found in pairs(written) do
      if found then
        kept[#kept + 1] = id
        kept[#kept + 1] = pack(found)
      else
        removed[#removed + 1] = id
      end
    end
    if #kept > 0 then
      call('HSET', KEYS[2], unpack(kept))
    end
    if #removed > 0 then
      call('HDEL', KEYS[2], unpack(removed))
    end
  end

  for _, entry in ipairs(entries or {}) do
    apply[entry[1]](entry)
  end
  for n = 1, count do
    local at = used + 3 * (n - 1)
    settle(told[FIRST + n - 1], {told[at], told[at + 1], told[at + 2]})
  end
  save()
  write_members()
  write_holds()
  if not born then
    born = birth_of(told[3])
    call('SET', KEYS[1], born)
  end
end
if #unknown == 0 then
  -- An empty list is one byte.
  call('SET', KEYS[4], '\146' .. pack(batch) .. '\144', 'PX', BATCH_KEPT)
  return '\147' .. pack(now, born) .. '\144'
end
call('SET', KEYS[4], pack({batch, unknown}), 'PX', BATCH_KEPT)
return answer()
