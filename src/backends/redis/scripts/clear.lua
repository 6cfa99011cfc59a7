-- Begin a new epoch: records, ids (they name their epoch) and version are forgotten, the retention stays. Everybody
-- who listens is told by a record with the offset 0. Returns the epoch as readers see it.
--
-- With an epoch as the last argument only if that is the channel's.
local meta, log = KEYS[1], KEYS[2]
local topic, run, suffix, fresh, outlive, only = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if only and redis.call('HGET', meta, 'e') ~= only then
  return ''
end
redis.call('HSET', meta, 'e', fresh, 's', '0', 'b', run, 'c', '0')
redis.call('HDEL', meta, 'v', 'l', 'r')
redis.call('DEL', log)
redis.call('PEXPIRE', meta, outlive)
redis.call('PUBLISH', topic, '0:' .. fresh .. suffix .. ':')
return fresh .. suffix
