-- Applies a batch of what became of reservations, once: a batch that was applied before changes nothing.
--
-- KEYS: born, holds, leases, batch.
-- ARGV[1]: {batch, lease, born to be, entries}
--   {'s', id, {input, output, cost}}        it is over and used so much
--   {'r', id, begun, doubtful}              it is over, and nobody knows what it used. Doubtful: it may not have come yet,
--                                           and must not be taken when it does
--   {'a', id, begun, scopes}                another candidate is tried; scope: {counters, slots or '', rates, budgets}
--   {'n', id, lease}                        its holder lives
--   {'p', scopes}                           so much was used without a reservation; scope: {counters, rates, budgets},
--                                           rate: {name, span, at, amount}, budget: {name, at, amount, bounds}
-- Answer: {now, born, ids that are not known}

local batch, lease, fresh, entries = unpack(cmsgpack.unpack(ARGV[1]))
local BATCH_KEPT = 86400000
local holds, gone, unknown, writes = {}, {}, {}, {}

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

local function hold(id)
  if gone[id] then
    return nil
  end
  if not holds[id] then
    local raw = redis.call('HGET', KEYS[2], id)
    if not raw then
      return nil
    end
    holds[id] = cmsgpack.unpack(raw)
  end
  return holds[id]
end

-- Commands that write are kept for the end.
local function later(...)
  writes[#writes + 1] = {...}
end

local function finish(id, found, outcome, used)
  for _, part in ipairs({found[1] or {}, found[2] or {}}) do
    for _, done in ipairs(part) do
      local slots = done[2]
      conclude(id, {done[1], '', done[3], done[4]}, outcome, used)
      if slots ~= '' then
        later('ZREM', slots, id)
      end
    end
  end
  gone[id] = true
  later('HDEL', KEYS[2], id)
  later('ZREM', KEYS[3], id)
end

local apply = {}

function apply.s(entry)
  local id = entry[2]
  local found = hold(id)
  if found then
    finish(id, found, 'used', entry[3])
  else
    unknown[#unknown + 1] = id
  end
end

function apply.r(entry)
  local id, begun, doubtful = entry[2], entry[3], entry[4]
  local found = hold(id)
  if found then
    finish(id, found, begun == 1 and 'unknown' or 'never')
  elseif doubtful == 1 then
    later('HSET', KEYS[2], id, cmsgpack.pack({}))
    later('ZADD', KEYS[3], now + lease, id)
  else
    unknown[#unknown + 1] = id
  end
end

function apply.a(entry)
  local id, begun = entry[2], entry[3]
  local found = hold(id)
  if not found then
    return
  end
  for _, done in ipairs(found[2] or {}) do
    conclude(id, {done[1], '', done[3], done[4]}, begun == 1 and 'unknown' or 'never')
    if done[2] ~= '' then
      later('ZREM', done[2], id)
    end
  end
  local charges = {}
  local ends = tonumber(redis.call('ZSCORE', KEYS[3], id) or now + lease)
  for at, scope in ipairs(entry[4]) do
    charges[at] = charge(scope[1], scope[2], scope[3], scope[4]) or {scope[1], scope[2], {}, {}}
    if scope[2] ~= '' then
      later('ZADD', scope[2], ends, id)
    end
  end
  found[2] = charges
  later('HSET', KEYS[2], id, cmsgpack.pack(found))
end

function apply.n(entry)
  local id = entry[2]
  local found = hold(id)
  if not found then
    return
  end
  local ends = now + entry[3]
  later('ZADD', KEYS[3], ends, id)
  for _, part in ipairs({found[1] or {}, found[2] or {}}) do
    for _, done in ipairs(part) do
      if done[2] ~= '' then
        later('ZADD', done[2], ends, id)
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

for _, entry in ipairs(entries) do
  apply[entry[1]](entry)
end
save()
for _, command in ipairs(writes) do
  redis.call(unpack(command))
end
if not born then
  born = fresh
  redis.call('SET', KEYS[1], born)
end
redis.call('SET', KEYS[4], cmsgpack.pack({batch, unknown}), 'PX', BATCH_KEPT)
return answer()
