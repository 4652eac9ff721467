-- Gives back, once for each process and birth, what a process has settled of budgets that were lost. Needs common.lua.
--
-- KEYS: born, seeded, then the counters that amounts name by their index.
-- ARGV[1]: {process, birth, amounts}
--   amount: {counters, budget, start, end (0: never), nano-USD}
-- Answer: {status, now, born ('': there is none)}. `REBORN`: the birth is another one, and nothing was written.
--
-- A process may be in `seeded` with 1: it was let in when it had nothing to give back. 2 says that it has given.

local SEEDED, DONE, REBORN = 0, 1, 2
-- 400 days: longer than any period but `Total`.
local SEEDED_KEPT = 34560000000

local process, birth, amounts = unpack(cmsgpack.unpack(ARGV[1]))
local born = redis.call('GET', KEYS[1]) or ''

local function answer(status)
  return cmsgpack.pack({status, now, born})
end

-- Whether two periods are the same; their bounds differ where the time zone of the budget was changed.
local function meet(found, start, ends)
  return (ends == 0 or found[1] < ends) and (found[2] == 0 or start < found[2])
end

-- Adds to the period if it is the present one. A period that is over, or that a later one has followed, counts no more;
-- one that is over by another time zone gives way.
local function add(key, name, start, ends, amount)
  if ends ~= 0 and ends <= now then
    return
  end
  local counters = state(key)
  local found = counters[name]
  local is_over = found and found[2] ~= 0 and found[2] <= now
  if not found or is_over or (start > found[1] and not meet(found, start, ends)) then
    found = {start, ends, 0, 0, start}
    counters[name] = found
  end
  if meet(found, start, ends) then
    found[3] = found[3] + amount
    touch(key, counters, lasting(found[2]))
  end
end

if born ~= birth then
  return answer(REBORN)
end
if redis.call('HGET', KEYS[2], process) == '2' then
  return answer(DONE)
end
for _, one in ipairs(amounts) do
  add(KEYS[one[1]], one[2], one[3], one[4], one[5])
end
save()
redis.call('HSET', KEYS[2], process, 2)
redis.call('PEXPIRE', KEYS[2], SEEDED_KEPT)
return answer(SEEDED)
