-- What stands before other scripts: now, by the server's clock, and what is kept once that clock was set back.
-- KEYS: tat, deliveries, processes, written, clock (the latest moment that a script saw).
-- A clock that was hours ahead and is put right, or a replica that takes over with one that is behind, would let no call be
-- made for as long: permits seem to be given out until then. So what is kept moves back as well. It stays as far ahead as it
-- was when a script last looked, so never less than it should be; a pause that a provider asked for stays as long.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local set_back = (tonumber(redis.call('GET', KEYS[5])) or 0) - now
if set_back > 1000000 then
  for _, key in ipairs({KEYS[1], KEYS[4]}) do
    local kept = tonumber(redis.call('GET', key))
    if kept then redis.call('SET', key, string.format('%.0f', kept - set_back), 'PX', 604800000) end
  end
  redis.call('DEL', KEYS[2])
end
redis.call('SET', KEYS[5], string.format('%.0f', now), 'PX', 604800000)

