-- Stores ARGV[2] at KEYS[1] for ARGV[3] ms, and gives the lease back, if the lease KEYS[2] still holds the token ARGV[1].
--
-- Promise: whatever removed or took over the lease since it was taken (an invalidation, a refresh, a value set by
-- hand, its expiry) keeps this value out. Answers 1 when it is stored, else 0.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
