-- Reads what was learned, so much at a time.
--
-- KEYS: a hash.
-- ARGV[1]: {cursor ('0' at first), fields at a time, about}
-- Answer: {cursor ('0': that was all), {field, value, field, value..}}. A field may come twice.

local cursor, many = unpack(cmsgpack.unpack(ARGV[1]))
return cmsgpack.pack(redis.call('HSCAN', KEYS[1], cursor, 'COUNT', many))
