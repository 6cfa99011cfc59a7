-- Begin a new epoch: records, ids (they name their epoch) and version are forgotten, the retention stays. Everybody
-- who listens is told by a record with the offset 0. Returns the epoch as readers see it.
local meta, log = KEYS[1], KEYS[2]
local topic, run, suffix, fresh, outlive = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
redis.call('HSET', meta, 'e', fresh, 's', '0', 'b', run, 'c', '0')
redis.call('HDEL', meta, 'v')
redis.call('DEL', log)
redis.call('PEXPIRE', meta, outlive)
redis.call('PUBLISH', topic, '0:' .. fresh .. suffix .. ':')
return fresh .. suffix
