-- Returns the value at KEYS[1] if there is one; else takes the lease KEYS[2] for ARGV[2] ms with the token ARGV[1].
-- A value equal to ARGV[3], if that is given, counts as none.
--
-- Promise: looking and taking are one step, so a lease is taken only for a value that is not there.
-- Answers the value; or 1 when the lease is taken now; or {holder} when somebody holds it.
local value = redis.call('GET', KEYS[1])
if value and value ~= ARGV[3] then return value end
local holder = redis.call('GET', KEYS[2])
if holder then return {holder} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
