-- A copy; empty where there is none.
return redis.call('GET', KEYS[1]) or ''
