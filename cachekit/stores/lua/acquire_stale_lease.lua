-- Returns the value at KEYS[1] if it is newer than what the caller saw; else takes the lease KEYS[2] for ARGV[2] ms with
-- the token ARGV[1].
--
-- ARGV[3]  the PTTL of the value that the caller saw; -2 if it saw none. A value with no more left is still that one.
-- ARGV[4]  a value that ends in it counts as that one, too; '' if there is nothing such.
-- ARGV[5]  0: the caller has no stale value. 1: it has one. 2: it has one, and loads in the background.
--
-- Promise: looking and taking are one step. A pause, which is a lease that begins with '~', is kept by those who have a
-- stale value, as long as that stands; others take it over. Nothing is loaded in the background for a key without value.
-- Answers the value; 1 when the lease is taken now; {holder} when it is held, or is a pause; 0 when there is no value.
local value = redis.call('GET', KEYS[1])
if value == '' then value = false end
if value and not (ARGV[4] ~= '' and string.sub(value, -string.len(ARGV[4])) == ARGV[4]) then
  local left = redis.call('PTTL', KEYS[1])
  -- -1: it never ends.
  if left > tonumber(ARGV[3]) or left == -1 then return value end
end
if not value and ARGV[5] == '2' then return 0 end
local holder = redis.call('GET', KEYS[2])
if holder and (string.byte(holder) ~= 126 or (value and ARGV[5] ~= '0')) then return {holder} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
