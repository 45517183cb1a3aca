-- Expires the value at KEYS[1] by hand, and removes the lease KEYS[2].
--
-- Promise: from now on the value stands in for loads that fail, and for nothing else, until the end that it has already.
-- A value without "s" in a second line has no stale window: it is removed, as is what is no value. Loads that are going
-- on are void. Answers 1 when there was a value, else 0.
redis.call('DEL', KEYS[2])
local value = redis.pcall('GET', KEYS[1])
if not value then return 0 end
local line = type(value) == 'string' and string.find(value, '\n', 1, true)
if not line or not string.find(value, '"s":', line, true) then return redis.call('UNLINK', KEYS[1]) end
if string.sub(value, -1) ~= '!' then redis.call('APPEND', KEYS[1], '!') end
return 1
