-- What every script begins with. Times are milliseconds since 1970.

local NEVER = 9007199254740991
local SLACK = 60000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
