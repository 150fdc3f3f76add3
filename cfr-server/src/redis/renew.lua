-- Keeps places for parallel requests for longer.
--
-- KEYS    the limits that requests run under
-- ARGV    how long a place is kept in microseconds, and for each key the name of the place

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kept = tonumber(ARGV[1])
for n, key in ipairs(KEYS) do
  redis.call('ZADD', key, string.format('%.0f', now + kept), ARGV[n + 1])
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(kept / 1000)))
end
