-- Puts the token ARGV[1] in the place of whatever holds the lease KEYS[1], for ARGV[2] ms.
--
-- Promise: loads that have begun before do not fill any more. Answers 1.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
