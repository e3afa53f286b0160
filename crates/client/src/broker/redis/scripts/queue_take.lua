-- Takes the next job. ARGV: visibility in ms when nothing was said.
-- Answers: {ms until something is due or -1}, and behind it {id, payload, attempt, lease} if there is one.
sweep()
local answer = {-1}
local id = redis.call('ZPOPMIN', here.ready)[1]
if id then
  local attempt = redis.call('HINCRBY', here.attempts, id, 1)
  local lease = text(redis.call('HINCRBY', here.settings, 'lease', 1))
  redis.call('HSET', here.leases, id, lease)
  redis.call('ZADD', here.leased, text(now + setting('visibility_ms', ARGV[4])), id)
  answer = {-1, id, redis.call('HGET', here.payloads, id), attempt, lease}
end
for _, key in ipairs({here.delayed, here.leased}) do
  local due = tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
  if due then
    local left = math.max(0, due - now)
    if answer[1] < 0 or left < answer[1] then answer[1] = left end
  end
end
return answer
