-- Decides everything that a request claims within one domain, then writes all or nothing.
--
-- KEYS: born, holds, leases, breakers, seeded, then the keys that claims name by their index.
-- ARGV[1]: {id, born as known, born to be, process, must seed, lease, peek, candidates wanted, scopes, candidates}
--   scope:     {counters, slots (0: none), concurrency (-1: none), budgets (0: none), then name, span, capacity, pair
--              and amount of one rate after the other}
--   budget:    {name, limit, amount, blocks, bounds}
--   candidate: {breaker (or ''), scopes}
-- Answer: {status, now, born, states of scopes, open candidates, states of candidates, breakers that are open}
--   state:     {in flight, what is kept of one rate after the other, and of one budget}, in the claim's order
--   breaker:   {candidate, until, class}

local GRANTED, REFUSED, REBORN, CLOCK, TAKEN = 0, 1, 2, 3, 4
local MOST_ENDED = 1000
-- 400 days: longer than any period but `Total`.
local SEEDED_KEPT = 34560000000

local ask = cmsgpack.unpack(ARGV[1])
local id, known, fresh, process, must_seed = ask[1], ask[2], ask[3], ask[4], ask[5]
local lease, peek, wanted, scopes, candidates = ask[6], ask[7], ask[8], ask[9], ask[10]

local read = {KEYS[1]}
for at = 6, #KEYS do
  read[#read + 1] = KEYS[at]
end
local raw = redis.call('MGET', unpack(read))
local born = raw[1] or birth_of(fresh)
for at = 2, #read do
  fetched[read[at]] = raw[at]
end

local function answer(status)
  return cmsgpack.pack({status, now, born, {}, {}, {}, {}})
end

if born ~= known and peek == 0 then
  if not raw[1] then
    redis.call('SET', KEYS[1], born)
  end
  if must_seed == 1 and redis.call('HEXISTS', KEYS[5], process) == 0 then
    return answer(REBORN)
  end
  redis.call('HSETNX', KEYS[5], process, 1)
  redis.call('PEXPIRE', KEYS[5], SEEDED_KEPT)
end

-- Written out once: whoever calls a command with a number has it written out each time.
local now_text = string.format('%.0f', now)

-- Ends the reservations whose holders have not been heard of.
local function expire()
  local ended = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now_text, 'LIMIT', 0, MOST_ENDED)
  local freed = {}
  for _, gone in ipairs(ended) do
    local hold = decoded(redis.call('HGET', KEYS[2], gone))
    for _, part in ipairs({hold[1] or {}, hold[2] or {}}) do
      for _, done in ipairs(part) do
        conclude(done, 'expired')
        freed[#freed + 1] = {done[2], gone}
      end
    end
  end
  if #ended > 0 then
    save()
    for _, slot in ipairs(freed) do
      if slot[1] ~= '' then
        redis.call('ZREM', slot[1], slot[2])
      end
    end
    redis.call('HDEL', KEYS[2], unpack(ended))
    redis.call('ZREM', KEYS[3], unpack(ended))
  end
end

local in_flight = {}

local function flying(slots)
  local known = in_flight[slots]
  if not known then
    -- Those that are over are removed with their reservations, or by the exchange that put them there.
    known = redis.call('ZCOUNT', slots, '(' .. now_text, '+inf')
    in_flight[slots] = known
  end
  return known
end

local NONE = {}

local function budgets_of(scope)
  return scope[4] == 0 and NONE or scope[4]
end

-- Whether a scope lets its claim in; nil: the bounds of a budget do not reach to now.
local function open(scope)
  local counters, let_in = state(KEYS[scope[1]]), true
  for at = 5, #scope, 5 do
    local span = scope[at + 1]
    if not fits(window(counters, scope[at], span), span, scope[at + 2], scope[at + 3], scope[at + 4]) then
      let_in = false
    end
  end
  for _, budget in ipairs(budgets_of(scope)) do
    local found = spending(counters, budget[1], budget[5])
    if not found then
      return nil
    end
    if budget[4] == 1 and found[3] + budget[3] > budget[2] then
      let_in = false
    end
  end
  if scope[3] >= 0 and flying(KEYS[scope[2]]) >= scope[3] then
    let_in = false
  end
  return let_in
end

local function all_open(list)
  local let_in = true
  for _, scope in ipairs(list) do
    local one = open(scope)
    if one == nil then
      return nil
    end
    let_in = let_in and one
  end
  return let_in
end

local function shown(list)
  local rows = {}
  for n, scope in ipairs(list) do
    local counters = state(KEYS[scope[1]])
    local row, last = {scope[2] > 0 and flying(KEYS[scope[2]]) or 0}, 1
    for at = 5, #scope, 5 do
      local found = counters[scope[at]]
      row[last + 1], row[last + 2], row[last + 3], row[last + 4] = found[1], found[2], found[3], found[4]
      last = last + 4
    end
    for _, budget in ipairs(budgets_of(scope)) do
      for part = 1, 5 do
        row[last + part] = counters[budget[1]][part]
      end
      last = last + 5
    end
    rows[n] = row
  end
  return rows
end

expire()
local let_in = all_open(scopes)
if let_in == nil then
  return answer(CLOCK)
end
if peek == 1 then
  return cmsgpack.pack({GRANTED, now, born, shown(scopes), {}, {}, {}})
end

-- Breakers that other replicas have opened.
local fields, asked, broken, is_broken = {}, {}, {}, {}
for at, candidate in ipairs(candidates) do
  if candidate[1] ~= '' then
    fields[#fields + 1] = candidate[1]
    asked[#asked + 1] = at
  end
end
if #fields > 0 then
  for n, record in ipairs(redis.call('HMGET', KEYS[4], unpack(fields))) do
    local ends, class = string.match(record or '', '^o (%d+) (%S+)$')
    if ends and tonumber(ends) > now then
      is_broken[asked[n]] = true
      broken[#broken + 1] = {asked[n] - 1, tonumber(ends), class}
    end
  end
end

-- A candidate whose breaker is open is there for when no other is.
local ready, resort = {}, {}
for at, candidate in ipairs(candidates) do
  if #ready >= wanted then
    break
  end
  local one = all_open(candidate[2])
  if one == nil then
    return answer(CLOCK)
  end
  if one then
    local list = is_broken[at] and resort or ready
    list[#list + 1] = at - 1
  end
end
if #ready == 0 then
  ready = resort
end

if not let_in or (#candidates > 0 and #ready == 0) then
  local closed = {}
  if #ready == 0 then
    for at, candidate in ipairs(candidates) do
      closed[at] = shown(candidate[2])
    end
  end
  return cmsgpack.pack({REFUSED, now, born, shown(scopes), ready, closed, broken})
end

local ends = string.format('%.0f', now + lease)
local function take(list)
  local charges = {}
  for at, scope in ipairs(list) do
    local slots = scope[2] > 0 and KEYS[scope[2]] or ''
    charges[at] = charge(KEYS[scope[1]], slots, scope)
  end
  return charges
end

local first = ready[1] and candidates[ready[1] + 1][2] or {}
local hold = {take(scopes), take(first)}
if redis.call('HSETNX', KEYS[2], id, cmsgpack.pack(hold)) == 0 then
  return answer(TAKEN)
end
redis.call('ZADD', KEYS[3], ends, id)
for _, part in ipairs(hold) do
  for _, done in ipairs(part) do
    if done[2] ~= '' then
      redis.call('ZADD', done[2], ends, id)
      in_flight[done[2]] = flying(done[2]) + 1
    end
  end
end
save()
return cmsgpack.pack({GRANTED, now, born, shown(scopes), ready, {}, broken})
