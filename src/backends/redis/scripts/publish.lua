-- Number one record, keep it, send it: all or nothing, since the first write is where a full memory stops a script.
--
-- Meta: e epoch, s newest offset, b server's term (durable: run id) at the last publish, c bytes published in the epoch,
--       k t y retention (messages, milliseconds, bytes), v version; durable only: l how the newest record begins,
--       r the ends of runs before this one, as "<first 12 of run id>=<newest offset> ", the last of them.
-- Log:  a stream; an entry's id is <offset>-<c before it>, so that the oldest entry tells how many bytes are kept.
-- Id:   "<epoch> <offset>:<epoch as readers see it>", the answer to whoever publishes the id again.
--
-- Returns "<1 if nothing was added, else 0>:<offset>:<epoch as readers see it>".
local meta, log, id = KEYS[1], KEYS[2], KEYS[3]
local envelope, topic, run, suffix, fresh = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local remember, outlive = tonumber(ARGV[6]), tonumber(ARGV[7])
local messages, ttl, bytes, version = ARGV[8], ARGV[9], ARGV[10], ARGV[11]

local stored = redis.call('HMGET', meta, 'e', 's', 'b', 'c', 'k', 't', 'y', 'v')
local epoch, offset, sent = stored[1], tonumber(stored[2] or 0), tonumber(stored[4] or 0)
local forget = false

if epoch then
  if remember > 0 then
    local known = redis.call('GET', id)
    -- an id of an epoch that was cleared or lost is a new one
    if known and string.sub(known, 1, #epoch + 1) == epoch .. ' ' then
      return '1:' .. string.sub(known, #epoch + 2)
    end
  end
  if version ~= '' and stored[8] and version <= stored[8] then
    return '1:' .. string.format('%.0f', offset) .. ':' .. epoch .. suffix
  end
  -- kept by a server that ended, or was a replica, since: readers see another epoch, of which these records are none
  forget = suffix ~= '' and stored[3] ~= run
else
  epoch, offset, sent, stored, forget = fresh, 0, 0, {}, true
end

local changes = {}
local function set(field, value, before)
  if value ~= before then
    changes[#changes + 1] = field
    changes[#changes + 1] = value
  end
end

offset = offset + 1
local number = string.format('%.0f', offset)
local visible = epoch .. suffix
set('s', number)
set('c', string.format('%.0f', sent + #envelope))
set('e', epoch, stored[1])
set('b', run, stored[3])
if messages ~= '' then
  set('k', messages, stored[5])
  set('t', ttl, stored[6])
  set('y', bytes, stored[7])
else
  messages, ttl, bytes = stored[5] or ARGV[12], stored[6] or ARGV[13], stored[7] or ARGV[14]
end
if version ~= '' then
  set('v', version)
end
if suffix == '' then
  set('l', string.sub(envelope, 1, 80))
  if stored[3] and stored[3] ~= run then
    local ends = redis.call('HGET', meta, 'r') or ''
    ends = ends .. string.sub(stored[3], 1, 12) .. '=' .. (stored[2] or '0') .. ' '
    while #ends > 300 do
      ends = string.sub(ends, string.find(ends, ' ', 1, true) + 1)
    end
    set('r', ends)
  end
end
redis.call('HSET', meta, unpack(changes))
if forget then
  redis.call('DEL', log)
end

messages, ttl, bytes = tonumber(messages), tonumber(ttl), tonumber(bytes)
if messages == 0 then
  redis.call('DEL', log)
else
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  redis.call('XADD', log, 'MAXLEN', '=', messages, number .. '-' .. string.format('%.0f', sent),
    'd', envelope, 't', string.format('%.0f', now))
  local cut
  local from = '-'
  while true do
    local oldest = redis.call('XRANGE', log, from, '+', 'COUNT', 1)[1]
    if not oldest then
      break
    end
    local dash = string.find(oldest[1], '-', 1, true)
    local before = tonumber(string.sub(oldest[1], dash + 1))
    if sent + #envelope - before <= bytes and tonumber(oldest[2][4]) > now - ttl then
      break
    end
    cut = string.format('%.0f', tonumber(string.sub(oldest[1], 1, dash - 1)) + 1)
    from = cut
  end
  if cut then
    redis.call('XTRIM', log, 'MINID', '=', cut)
  end
  redis.call('PEXPIRE', log, string.format('%.0f', ttl))
end
redis.call('PEXPIRE', meta, string.format('%.0f', ttl + outlive))
if remember > 0 then
  redis.call('SET', id, epoch .. ' ' .. number .. ':' .. visible, 'PX', ARGV[6])
end
redis.call('PUBLISH', topic, number .. ':' .. visible .. ':' .. envelope)
return '0:' .. number .. ':' .. visible
