-- Reserve call permits, spread evenly (GCRA), and a place among a connection's deliveries: one round trip a delivery.
-- Behind set_back.lua, which says what KEYS are.  ARGV: interval (us), wanted, window (us), delivery id, most deliveries, delivery's
-- end (us from now), process id, process memory (us), 1 if permits must be written down in the ledger before.
-- Returns: permits, us until the first, tat afterwards, processes seen lately, now, us for which permits are still written
-- down. Permits is -1 if there are deliveries enough, and -2 if they lie beyond what is written down (`written`).
local interval, wanted, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

redis.call('ZADD', KEYS[3], now, ARGV[7])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[8]))
redis.call('PEXPIRE', KEYS[3], 3600000)
local processes = redis.call('ZCARD', KEYS[3])

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if ARGV[4] ~= '' and not redis.call('ZSCORE', KEYS[2], ARGV[4]) and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
  return {-1, 0, '0', processes, '0', '0'}
end

-- Without a tat this server may just have lost one: the last permit that others reserved lies a window ahead at most.
local tat = tonumber(redis.call('GET', KEYS[1]))
if not tat then tat = now + window + interval end
local first = math.max(tat, now)
local permits = math.min(wanted, math.floor((now + window - first) / interval) + 1)
if permits < 0 then permits = 0 end
local written = tonumber(redis.call('GET', KEYS[4])) or 0
if permits > 0 and ARGV[9] == '1' and first + (permits - 1) * interval > written then
  redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', 604800000)
  return {-2, 0, '0', processes, string.format('%.0f', now), '0'}
end
local after = first + permits * interval
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', 604800000)
if permits > 0 and ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[6]), ARGV[4])
  redis.call('PEXPIRE', KEYS[2], 3600000)
end
return {permits, first - now, string.format('%.0f', after), processes, string.format('%.0f', now),
        string.format('%.0f', written - after)}
