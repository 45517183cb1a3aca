-- Puts the JSON object ARGV[2], with the time of now as its last member, at the head of the window KEYS[1], if the lease
-- KEYS[2] holds the generation ARGV[1]. Afterwards the window has at most ARGV[3] items, and lives for ARGV[4] ms.
--
-- Promises: a window that was forgotten since its generation was read does not grow. Ages are judged by this server's
-- clock alone. No item at the tail is older than ARGV[4] ms, or ahead of the clock. A push that is refused changes
-- nothing. An item whose timestamp cannot be read counts as older than all: private text is rather lost than kept.
-- Answers 1 when it is pushed, else 0.
-- Cost: one look at the last 42 bytes of the oldest item when nothing is too old.
local window, lease = KEYS[1], KEYS[2]
if redis.call('GET', lease) ~= ARGV[1] then return 0 end

-- The days are counted as in http://howardhinnant.github.io/date_algorithms.html#civil_from_days
local floor = math.floor
local function timestamp(seconds, micros)
  local days = floor(seconds / 86400)
  local time = seconds - days * 86400
  local era = floor((days + 719468) / 146097)
  local of_era = days + 719468 - era * 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * of_year + 2) / 153)
  local day = of_year - floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  year = year + era * 400 + (month < 3 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day,
    floor(time / 3600), floor(time / 60) % 60, time % 60, micros)
end

local time, ttl = redis.call('TIME'), tonumber(ARGV[4])
local seconds, micros = tonumber(time[1]), tonumber(time[2])
local now = timestamp(seconds, micros)
seconds, micros = seconds - floor(ttl / 1000), micros - ttl % 1000 * 1000
if micros < 0 then seconds, micros = seconds - 1, micros + 1000000 end
local oldest = timestamp(seconds, micros)

local function stamp_of(item)
  -- Written by this toolkit the timestamp stands last: ,"timestamp":"2026-11-22T10:00:00.000000Z"}
  local found = string.match(string.sub(item, -42), '"timestamp":"([^"\\]+)"}$')
  if found then return found end
  local ok, decoded = pcall(cjson.decode, item)
  return ok and type(decoded) == 'table' and type(decoded['timestamp']) == 'string' and decoded['timestamp'] or ''
end

-- The number of items that stay, and those that are ahead of the clock: it was set back, or another host stamped them.
local kept, ahead = redis.call('LLEN', window), {}
while kept > 0 do
  local item = redis.call('LINDEX', window, kept - 1)
  local stamp = stamp_of(item)
  if stamp > now and string.sub(item, -29) == stamp .. '"}' then
    -- From now on it has an age: none. The same goes for the items in front of it.
    for index = kept, 1, -1 do
      item = redis.call('LINDEX', window, index - 1)
      stamp = stamp_of(item)
      if stamp <= now or string.sub(item, -29) ~= stamp .. '"}' then break end
      ahead[index] = string.sub(item, 1, -30) .. now .. '"}'
    end
    break
  end
  if stamp >= oldest and stamp <= now then break end
  kept = kept - 1
end

-- All that may be refused comes before the first change of the window, since a script is not undone: SET for want of
-- memory and for a time that is out of range, LTRIM and PEXPIRE by an ACL. These two change nothing here.
redis.call('SET', lease, ARGV[1], 'PX', ARGV[4])
local permitted = redis.acl_check_cmd -- not in Redis 6.2
if not (permitted and permitted('LTRIM', window, 0, 0) and permitted('PEXPIRE', window, 1)) then
  redis.call('LTRIM', window, 0, -1)
  redis.call('PEXPIRE', lease, ARGV[4])
end
if next(ahead) then
  local items = redis.call('LRANGE', window, 0, kept - 1)
  redis.call('DEL', window)
  for index = kept, 1, -1 do redis.call('LPUSH', window, ahead[index] or items[index]) end
end
local comma = #ARGV[2] > 2 and ',' or ''
redis.call('LPUSH', window, string.sub(ARGV[2], 1, -2) .. comma .. '"timestamp":"' .. now .. '"}')
redis.call('LTRIM', window, 0, math.min(tonumber(ARGV[3]), kept + 1) - 1)
redis.call('PEXPIRE', window, ARGV[4])
return 1
