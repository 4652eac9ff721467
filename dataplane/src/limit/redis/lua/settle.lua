-- Applies a batch of what became of reservations, once: a batch that was applied before changes nothing.
--
-- KEYS: born, holds, leases, batch.
-- ARGV[1]: {batch, lease, born to be, entries}
--   {'s', id, {input, output, cost}}        it is over and used so much
--   {'r', id, begun, doubtful}              it is over, and nobody knows what it used. Doubtful: it may not have come yet,
--                                           and must not be taken when it does
--   {'a', id, begun, scopes}                another candidate is tried; scope: {counters, slots or '', ..} as for `charge`
--   {'n', id, lease}                        its holder lives
--   {'p', scopes}                           so much was used without a reservation; scope: {counters, rates, budgets},
--                                           rate: {name, span, at, amount}, budget: {name, at, amount, bounds}
-- Answer: {now, born, ids that are not known}

local batch, lease, fresh, entries = unpack(cmsgpack.unpack(ARGV[1]))
local BATCH_KEPT = 86400000
local unknown = {}
-- What becomes of reservations, and of members of sorted sets: false is to be removed.
local written, members = {}, {}

local born = redis.call('GET', KEYS[1])

local function answer()
  return cmsgpack.pack({now, born, unknown})
end

-- The last batch, and what was not known of it: whoever asks again must hear the same.
local last = decoded(redis.call('GET', KEYS[4]))
if born and (last[1] or 0) >= batch then
  unknown = last[2]
  return answer()
end

-- What the reservations of this batch hold, by id; false: they are not known, or over.
local function open_holds()
  local ids, open = {}, {}
  for _, entry in ipairs(entries) do
    local id = entry[2]
    if entry[1] ~= 'p' and open[id] == nil then
      open[id] = false
      ids[#ids + 1] = id
    end
  end
  if #ids > 0 then
    for at, raw in ipairs(redis.call('HMGET', KEYS[2], unpack(ids))) do
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

local apply = {}

function apply.s(entry)
  local id = entry[2]
  if holds[id] then
    finish(id, 'used', entry[3])
  else
    unknown[#unknown + 1] = id
  end
end

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
  local charges, ends = {}, redis.call('ZSCORE', KEYS[3], id) or renewed
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
      redis.call('ZADD', set, unpack(added))
    end
    if #removed > 0 then
      redis.call('ZREM', set, unpack(removed))
    end
  end
end

local function write_holds()
  local kept, removed = {}, {}
  for id, found in pairs(written) do
    if found then
      kept[#kept + 1] = id
      kept[#kept + 1] = cmsgpack.pack(found)
    else
      removed[#removed + 1] = id
    end
  end
  if #kept > 0 then
    redis.call('HSET', KEYS[2], unpack(kept))
  end
  if #removed > 0 then
    redis.call('HDEL', KEYS[2], unpack(removed))
  end
end

for _, entry in ipairs(entries) do
  apply[entry[1]](entry)
end
save()
write_members()
write_holds()
if not born then
  born = birth_of(fresh)
  redis.call('SET', KEYS[1], born)
end
redis.call('SET', KEYS[4], cmsgpack.pack({batch, unknown}), 'PX', BATCH_KEPT)
return answer()
