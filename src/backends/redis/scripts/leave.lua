-- Remove the given members, or without any those whose lease ended. Returns how many that were, and then what those
-- show by whose leave a key is no longer present.
local leases, members, groups = KEYS[1], KEYS[2], KEYS[3]
local ids = ARGV
if #ids == 0 then
  local time = redis.call('TIME')
  local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
  ids = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 500)
end
local answer = {#ids}
for _, id in ipairs(ids) do
  local key, shown = redis.call('HGET', groups, 'i' .. id), redis.call('HGET', members, id)
  redis.call('ZREM', leases, id)
  redis.call('HDEL', members, id)
  redis.call('HDEL', groups, 'i' .. id)
  if key and redis.call('HINCRBY', groups, 'k' .. key, -1) < 1 then
    redis.call('HDEL', groups, 'k' .. key)
    answer[#answer + 1] = shown or nil
  end
end
return answer
