-- A process says that it lives, or that it ends, and hears how many live.
--
-- KEYS: pods. ARGV[1]: {process, for how long it is believed, whether it ends}. Answer: how many live.

local process, believed, ends = unpack(cmsgpack.unpack(ARGV[1]))
if ends then
  redis.call('ZREM', KEYS[1], process)
else
  redis.call('ZADD', KEYS[1], now, process)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - believed)
redis.call('PEXPIRE', KEYS[1], 2 * believed)
return cmsgpack.pack(redis.call('ZCARD', KEYS[1]))
