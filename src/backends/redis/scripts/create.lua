-- Let a channel come to be, and live on if it is about to be forgotten. Returns its epoch and newest offset.
local meta, log = KEYS[1], KEYS[2]
local run, fresh, outlive = ARGV[1], ARGV[2], ARGV[3]
local stored = redis.call('HMGET', meta, 'e', 's')
if not stored[1] then
  redis.call('HSET', meta, 'e', fresh, 's', '0', 'b', run)
  redis.call('DEL', log)
  stored = {fresh, '0'}
end
if redis.call('PTTL', meta) < tonumber(outlive) then
  redis.call('PEXPIRE', meta, outlive)
end
return {stored[1], stored[2] or '0'}
