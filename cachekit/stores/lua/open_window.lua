-- Returns the generation of the window KEYS[1], which stands at its lease KEYS[2]; without one, makes it, for ARGV[2] ms.
--
-- Promises: no generation comes twice, even if this call is carried out again at any later time, since the time goes into
-- it with the random token ARGV[1]. A key that holds no window is refused, and gets none.
redis.call('LLEN', KEYS[1])
local generation = redis.call('GET', KEYS[2])
if generation then return generation end
local now = redis.call('TIME')
generation = string.sub(redis.sha1hex(ARGV[1] .. now[1] .. '.' .. now[2]), 1, 24)
redis.call('SET', KEYS[2], generation, 'PX', ARGV[2])
return generation
