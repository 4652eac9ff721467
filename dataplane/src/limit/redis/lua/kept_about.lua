-- The beginning of a copy, in which it says what it is.
return string.sub(redis.call('GET', KEYS[1]) or '', 1, 65536)
