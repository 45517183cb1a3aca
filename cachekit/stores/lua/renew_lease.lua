-- Lets the lease KEYS[1] live for another ARGV[2] ms if it still holds the token ARGV[1].
--
-- Promise: a lease that was voided or taken over is not brought back. Answers 1 when it is renewed, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
