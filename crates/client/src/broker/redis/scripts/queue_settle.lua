-- Settles a job, or extends its lease. Answers whether it was leased under that number.
-- ARGV: id, lease, what: ack, nack, return or extend; ms, or -1 for what the queue says; what that is
-- when nothing was said.
local id, lease, what, ms = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
if not is_leased(id, lease) then
  sweep()
  return 0
end
if what == 'extend' then
  redis.call('ZADD', here.leased, text(now + ms), id)
  return 1
end
redis.call('ZREM', here.leased, id)
if what == 'ack' then
  forget(here, id)
elseif what == 'return' then
  redis.call('HINCRBY', here.attempts, id, -1)
  redis.call('HDEL', here.leases, id)
  make_ready(here, id)
else
  if ms < 0 then ms = setting('retry_ms', ARGV[8]) end
  failed(id, ms)
end
return 1
