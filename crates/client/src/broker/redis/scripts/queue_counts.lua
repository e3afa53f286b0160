-- Answers: ready, delayed, leased, dead.
sweep()
local function count(key) return redis.call('ZCARD', key) end
return {
  count(here.ready), count(here.delayed), count(here.leased),
  count(dead.ready) + count(dead.delayed) + count(dead.leased),
}
