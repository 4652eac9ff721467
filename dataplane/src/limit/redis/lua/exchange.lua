-- Adds what a process counted for itself on scopes of one domain, once: a batch that was applied before changes nothing.
-- Tells what all processes counted together. The same call carries news of breakers.
--
-- KEYS: the process' last batch, breakers, born, then the counters and the slots of each scope.
-- ARGV[1]: {process, batch (0: no changes), lease, scopes, {version of breakers as known, records to write},
--           {born as known (''), born to be}}
--   scope:  {rates, budgets, {low, count, high}}: so many requests are in flight, of which `low` at least and `high` at
--           most are among the slots; a low of -1: they do not matter
--   rate:   {name, span, bucket, by how much more counts, by how much more may be given back}
--   budget: {name, start, end (0: never), by how much more is spent, by how much more may be given back}
--   record: {field, value}
-- Answer: {now, born, {version of breakers, all records if they are not known}, totals of the scopes}. Where the data
-- began anew since the process has heard of it, nothing is added and no totals are told: it has more to tell then.
--   total:  {in flight, {{rate, bucket, current, previous}, ..}, {{budget, start, end, spent}, ..}}

local process, batch, lease, scopes, news, birth = unpack(cmsgpack.unpack(ARGV[1]))
local BATCH_KEPT = 86400000
-- As many arguments as a command is given at once.
local MOST_ARGUMENTS = 1000

local function more(value, by)
  return math.min(NEVER, math.max(0, value + by))
end

local function add_rate(key, counters, rate)
  local name, span, bucket, amount, held = unpack(rate)
  local found = window(counters, name, span)
  -- A clock that is a little ahead begins a bucket a little early.
  if bucket == found[1] + 1 then
    found[1], found[2], found[3] = bucket, 0, found[2]
  end
  local at = found[1] == bucket and 2 or (found[1] == bucket + 1 and 3 or nil)
  if at then
    found[at] = more(found[at], amount)
    found[4] = more(found[4], held)
    touch(key, counters, (found[1] + 2) * span)
  end
end

local function add_budget(key, counters, budget)
  local name, start, ends, amount, held = unpack(budget)
  local found = spending(counters, name, {start, ends})
  if found and (ends == 0 or ends > found[1]) then
    found[3] = more(found[3], amount)
    found[4] = more(found[4], held)
    touch(key, counters, lasting(found[2]))
  end
end

local function apply()
  if batch == 0 or tonumber(redis.call('GET', KEYS[1]) or '0') >= batch then
    return
  end
  for at, scope in ipairs(scopes) do
    local key = KEYS[2 + 2 * at]
    for _, rate in ipairs(scope[1]) do
      add_rate(key, state(key), rate)
    end
    for _, budget in ipairs(scope[2]) do
      add_budget(key, state(key), budget)
    end
  end
  save()
  redis.call('SET', KEYS[1], batch, 'PX', BATCH_KEPT)
end

-- A slot of a process that counts for itself: there is one for each of its requests in flight, under a number.
local function slot(number)
  return process .. '/' .. number
end

local function in_bulk(command, key, list)
  for from = 1, #list, MOST_ARGUMENTS do
    redis.call(command, key, unpack(list, from, math.min(#list, from + MOST_ARGUMENTS - 1)))
  end
end

-- Requests in flight of all processes, after this one's are set right.
local function flying(slots, low, count, high)
  if low < 0 then
    return 0
  end
  if low > 0 and not redis.call('ZSCORE', slots, slot(low)) then
    low = 0
  end
  local taken, freed = {}, {}
  for number = low + 1, count do
    taken[#taken + 1] = now + lease
    taken[#taken + 1] = slot(number)
  end
  for number = count + 1, high do
    freed[#freed + 1] = slot(number)
  end
  in_bulk('ZADD', slots, taken)
  in_bulk('ZREM', slots, freed)
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
  return redis.call('ZCARD', slots)
end

local function total(key, in_flight)
  local rates, budgets = {}, {}
  for name, counter in pairs(state(key)) do
    if string.sub(name, 1, 7) == 'budget_' then
      budgets[#budgets + 1] = {name, counter[1], counter[2], counter[3]}
    elseif name ~= 'x' then
      rates[#rates + 1] = {name, counter[1], counter[2], counter[3]}
    end
  end
  return {in_flight, rates, budgets}
end

redis.call('SETNX', KEYS[3], birth_of(birth[2]))
local born, totals = redis.call('GET', KEYS[3]), {}
if birth[1] ~= '' and birth[1] ~= born then
  scopes = {}
else
  apply()
end
for at, scope in ipairs(scopes) do
  local key, slots = KEYS[2 + 2 * at], KEYS[3 + 2 * at]
  totals[at] = total(key, flying(slots, scope[3][1], scope[3][2], scope[3][3]))
end
return cmsgpack.pack({now, born, exchange_breakers(KEYS[2], news[1], news[2]), totals})
