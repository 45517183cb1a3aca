-- Puts a pause of ARGV[2] ms in the place of the lease KEYS[2] if that still holds the token ARGV[1] and a value stands at
-- KEYS[1]; gives the lease back if none does.
--
-- Promise: only the load that holds the lease may pause others, so whatever voided it voids the pause as well. The pause
-- is no token: nothing fills under it, and an invalidation, a refresh or a value set by hand removes it.
-- Answers 2 when the pause is set, 1 when the lease is given back, 0 when the token does not hold it.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.call('DEL', KEYS[2]) end
redis.call('SET', KEYS[2], '~' .. ARGV[1], 'PX', ARGV[2])
return 2
