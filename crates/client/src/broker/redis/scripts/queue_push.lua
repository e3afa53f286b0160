-- Adds a job. KEYS behind those of queue.lua: what remembers the dedupe key, if there is one.
-- ARGV: payload, priority, delay in ms, how long the dedupe key is remembered in ms, jobs at most.
-- Answers: {id, whether it is a duplicate}, or nothing when the queue is full.
local payload, priority, delay_ms = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if KEYS[18] then
  local first = redis.call('GET', KEYS[18])
  if first then return {first, 1} end
end
if redis.call('HLEN', here.payloads) >= tonumber(ARGV[8]) then return {} end
local id = text(redis.call('INCR', KEYS[17]))
redis.call('HSET', here.payloads, id, payload)
if priority > 0 then redis.call('HSET', here.priorities, id, priority) end
if KEYS[18] then redis.call('SET', KEYS[18], id, 'PX', ARGV[7]) end
if delay_ms > 0 then
  redis.call('ZADD', here.delayed, text(now + delay_ms), id)
  -- So that who waits knows of its time.
  redis.call('PUBLISH', here.channel, '')
else
  make_ready(here, id)
end
return {id, 0}
