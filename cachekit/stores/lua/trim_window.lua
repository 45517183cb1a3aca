-- Removes from the tail of the window KEYS[1] what is older than ARGV[1], an ISO 8601 timestamp.
--
-- Promise: afterwards the last item, if there is one, has a timestamp of at least ARGV[1]. An item whose
-- timestamp cannot be read is taken for older than all: private text is rather lost than kept too long.
-- Cost: one look at the last 42 bytes of the oldest item when nothing is too old.
local removed = 0
while true do
  local item = redis.call('LINDEX', KEYS[1], -1)
  if not item then return removed end
  -- Written by this toolkit the timestamp stands last: ,"timestamp":"2026-11-22T10:00:00.000000Z"}
  local found = string.match(string.sub(item, -42), '"timestamp":"([^"\\]+)"}$')
  if not found then
    local ok, decoded = pcall(cjson.decode, item)
    found = ok and type(decoded) == 'table' and decoded['timestamp']
  end
  if type(found) == 'string' and found >= ARGV[1] then return removed end
  redis.call('RPOP', KEYS[1])
  removed = removed + 1
end
