-- Tells what was learned.
--
-- KEYS: a hash.
-- ARGV[1]: {fields at most, how long it is kept in milliseconds, {field, value, field, value..}}
-- Answer: {fields}
--
-- A hash with too many fields is dropped, and learned anew.

local most, kept, fields = unpack(cmsgpack.unpack(ARGV[1]))

redis.call('HSET', KEYS[1], unpack(fields))
if redis.call('HLEN', KEYS[1]) > most then
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], unpack(fields))
end
redis.call('PEXPIRE', KEYS[1], kept)
return cmsgpack.pack({redis.call('HLEN', KEYS[1])})
