-- Lets the value at KEYS[1] live for ARGV[1] ms from now on, and for the stale window that its second line names beyond.
--
-- Promise: the value itself is not changed, and none is made. One whose TTL is over, or that was expired by hand, stays so.
-- Answers 0 when that was not done; the second line of a value that has tags ("T"), since these have to outlive it; else 1.
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, -1) == '!' then return 0 end
local line = string.match(value, '\n([^\n]*)$')
local window = line and tonumber(string.match(line, '"s":(%d+)')) or 0
local left = redis.call('PTTL', KEYS[1])
-- -1: it never ends.
if left ~= -1 and left <= window then return 0 end
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[1]) + window)
return line and string.find(line, '"T":', 1, true) and line or 1
