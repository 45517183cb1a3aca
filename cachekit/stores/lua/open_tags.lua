-- Returns the generations at KEYS, which are tags. One that has none gets ARGV[2], ARGV[3], ... for ARGV[1] ms.
--
-- Promise: looking and making are one step for each tag, and a generation that stands is never replaced. A tag that has
-- less than half of ARGV[1] left gets all of it again, so that it outlives the values that are about to name it.
local generations = {}
for place, tag in ipairs(KEYS) do
  local generation = redis.call('GET', tag)
  if not generation then
    generation = ARGV[place + 1]
    redis.call('SET', tag, generation, 'PX', ARGV[1])
  elseif redis.call('PTTL', tag) * 2 < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', tag, ARGV[1])
  end
  generations[place] = generation
end
return generations
