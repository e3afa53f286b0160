-- What all scripts of queues begin with; each runs as a whole, or not at all.
-- KEYS: ready, delayed, leased, payloads, attempts, priorities, leases, settings; the same of the dead
-- letters; the counter of ids.
-- ARGV: channel that tells of this queue, the one of the dead letters, attempts when nothing was said.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function queue(first)
  return {
    ready = KEYS[first], delayed = KEYS[first + 1], leased = KEYS[first + 2],
    payloads = KEYS[first + 3], attempts = KEYS[first + 4], priorities = KEYS[first + 5],
    leases = KEYS[first + 6], settings = KEYS[first + 7],
  }
end
local here, dead = queue(1), queue(9)
here.channel, dead.channel = ARGV[1], ARGV[2]

local STEP, DEAD_MAX = 100, 100000

local function text(number)
  return string.format('%.0f', number)
end

local function setting(name, otherwise)
  return tonumber(redis.call('HGET', here.settings, name) or otherwise)
end

-- Puts a job behind those of its priority that are ready.
local function make_ready(q, id)
  local turn = redis.call('HINCRBY', q.settings, 'turn', 1)
  local priority = tonumber(redis.call('HGET', q.priorities, id) or 0)
  -- Both fit into the 53 bits that a score has.
  redis.call('ZADD', q.ready, text((255 - priority) * 1099511627776 + turn), id)
  redis.call('PUBLISH', q.channel, '')
end

local function forget(q, id)
  redis.call('HDEL', q.payloads, id)
  redis.call('HDEL', q.attempts, id)
  redis.call('HDEL', q.priorities, id)
  redis.call('HDEL', q.leases, id)
end

local function bury(id)
  if redis.call('HLEN', dead.payloads) >= DEAD_MAX then
    local oldest = redis.call('ZPOPMIN', dead.ready)
    if oldest[1] then forget(dead, oldest[1]) end
  end
  local payload = redis.call('HGET', here.payloads, id)
  forget(here, id)
  redis.call('HSET', dead.payloads, id, payload)
  make_ready(dead, id)
end

-- What becomes of a job that was delivered and is not done; it is nowhere at this moment.
local function failed(id, delay_ms)
  local attempts_max = setting('attempts_max', ARGV[3])
  local attempts = tonumber(redis.call('HGET', here.attempts, id) or 0)
  redis.call('HDEL', here.leases, id)
  if attempts_max > 0 and attempts >= attempts_max then
    bury(id)
  elseif delay_ms > 0 then
    redis.call('ZADD', here.delayed, text(now + delay_ms), id)
    redis.call('PUBLISH', here.channel, '')
  else
    make_ready(here, id)
  end
end

-- What is due: delayed jobs whose time has come, and leases that are over.
local function sweep()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', here.delayed, '-inf', text(now), 'LIMIT', 0, STEP)) do
    redis.call('ZREM', here.delayed, id)
    make_ready(here, id)
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', here.leased, '-inf', text(now), 'LIMIT', 0, STEP)) do
    redis.call('ZREM', here.leased, id)
    failed(id, 0)
  end
end

-- Whether a job is leased under this number, and the lease is not over.
local function is_leased(id, lease)
  local till = tonumber(redis.call('ZSCORE', here.leased, id) or 0)
  return redis.call('HGET', here.leases, id) == lease and till > now
end
