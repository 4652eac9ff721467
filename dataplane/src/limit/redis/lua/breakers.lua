-- Breakers of host keys as processes tell each other of them: a hash of records, by key, and their version under `v`.
--   o <until> <class>@<at>   it is out
--   c <at>                   it is back
-- A version is never used twice, also where the hash was lost in between.

-- What nobody has told anything new of for a day is of keys that are gone.
local RECORD_KEPT = 86400000

-- When it was found, until when it is out (0: it is back), and why.
local function breaker(record)
  local ends, class, at = string.match(record, '^o (%d+) (%a+)@(%d+)$')
  if ends then
    return tonumber(at), tonumber(ends), class
  end
  return tonumber(string.match(record, '^c (%d+)$') or '0'), 0, ''
end

-- What stands of two records: of two openings the longer, of an opening and a closing the later.
local function standing(known, told)
  local known_at, known_ends, known_class = breaker(known)
  local at, ends, class = breaker(told)
  if known_ends > 0 and ends > 0 then
    if known_ends > ends or (known_ends == ends and known_class > class) then
      ends, class = known_ends, known_class
    end
    return string.format('o %.0f %s@%.0f', ends, class, math.max(known_at, at))
  elseif at > known_at or (at == known_at and ends > 0) then
    return told
  end
  return known
end

-- Takes in `told`, a list of {key, record}. Answers {version, all records as such a list if that is not the one known}.
local function exchange_breakers(hash, known_version, told)
  local version, is_changed = tonumber(redis.call('HGET', hash, 'v') or '0'), false
  for _, news in ipairs(told) do
    local known = redis.call('HGET', hash, news[1])
    local record = known and standing(known, news[2]) or news[2]
    if record ~= known then
      redis.call('HSET', hash, news[1], record)
      is_changed = true
    end
  end
  if not is_changed and version == known_version then
    return {version, {}}
  end
  local all, records, gone = redis.call('HGETALL', hash), {}, {}
  for at = 1, #all, 2 do
    local key, record = all[at], all[at + 1]
    if key ~= 'v' then
      local found, ends = breaker(record)
      if math.max(found, ends) + RECORD_KEPT < now then
        gone[#gone + 1] = key
      else
        records[#records + 1] = {key, record}
      end
    end
  end
  for _, key in ipairs(gone) do
    redis.call('HDEL', hash, key)
  end
  if is_changed or #gone > 0 then
    version = math.max(version + 1, now)
    redis.call('HSET', hash, 'v', string.format('%.0f', version))
    redis.call('PEXPIRE', hash, 10 * RECORD_KEPT)
  end
  return {version, records}
end
