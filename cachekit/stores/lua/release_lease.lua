-- Removes the lease KEYS[1] if it still holds the token ARGV[1].
--
-- Promise: nobody else's lease is removed. Answers 1 when it is removed, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
