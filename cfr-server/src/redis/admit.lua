-- Lets one request in under all of its limits, or under none of them. Times are whole microseconds of the server's clock,
-- which Lua's numbers hold exactly.
--
-- KEYS    one for each limit
-- ARGV    the name of the request's place, how long it is kept, and for each limit:
--         a limit per minute: 'rate', requests, time between two of them
--         a limit on parallel requests: 'place', requests, 0
-- returns {0, used...}: let in, with how much of each limit's minute is used up
--         {n, wait}: the n-th limit is exceeded for so long; for parallel requests nobody knows

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local place, kept = ARGV[1], tonumber(ARGV[2])
local whole = function(number) return string.format('%.0f', number) end
local used = {0}

for n, key in ipairs(KEYS) do
  local kind, limit, step = ARGV[3 * n], tonumber(ARGV[3 * n + 1]), tonumber(ARGV[3 * n + 2])
  if kind == 'rate' then
    local window = limit * step
    local from = tonumber(redis.call('GET', key) or now) or now
    from = math.max(now, math.min(from, now + window)) -- the clock may have been set back
    used[n + 1] = from + step - now
    if used[n + 1] > window then return {n, used[n + 1] - window} end
  else
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
    if redis.call('ZCARD', key) >= limit then return {n, 0} end
    used[n + 1] = 0
  end
end

for n, key in ipairs(KEYS) do
  if ARGV[3 * n] == 'rate' then
    redis.call('SET', key, whole(now + used[n + 1]), 'PX', whole(math.ceil(used[n + 1] / 1000)))
  else
    redis.call('ZADD', key, whole(now + kept), place)
    redis.call('PEXPIRE', key, whole(math.ceil(kept / 1000)))
  end
end
return used
