-- Enter members or renew their leases. Returns which of them (from 0 on) brought a key that was not present.
--
-- Leases: member → end of its lease in milliseconds of the server's clock. Members: member → what it shows.
-- Groups: "i<member>" → its key, "k<key>" → how many members have it.
local leases, members, groups = KEYS[1], KEYS[2], KEYS[3]
local lease, outlive = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local ends = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + lease)
local joined = {}
for at = 3, #ARGV, 3 do
  local id, key, shown = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local before = redis.call('HGET', groups, 'i' .. id)
  if before ~= key then
    if before and redis.call('HINCRBY', groups, 'k' .. before, -1) < 1 then
      redis.call('HDEL', groups, 'k' .. before)
    end
    redis.call('HSET', groups, 'i' .. id, key)
    if redis.call('HINCRBY', groups, 'k' .. key, 1) == 1 then
      joined[#joined + 1] = (at - 3) / 3
    end
  end
  redis.call('HSET', members, id, shown)
  redis.call('ZADD', leases, ends, id)
end
-- they outlive the leases, so that whoever sweeps can still tell who left
local life = string.format('%.0f', math.max(redis.call('PTTL', leases), lease + outlive))
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, life)
end
return joined
