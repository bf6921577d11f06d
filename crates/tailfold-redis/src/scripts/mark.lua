-- Day, seconds to live, then slots and versions. Touches no envelope.
local key, day = KEYS[1], tonumber(ARGV[1])
if not is_ours(key) then return 0 end
for at = 3, #ARGV, 2 do
  local slot, version = ARGV[at], ARGV[at + 1]
  local newest = entry(redis.call('HGET', key, slot .. ':head'))
  if newest and newest.version == version then
    if tonumber(newest.used) < day then
      newest.used = ARGV[1]
      redis.call('HSET', key, slot .. ':head', line(newest))
    end
  elseif redis.call('HEXISTS', key, slot .. ':older') == 1 then
    local all, changed = kept(key, slot), false
    for _, known in ipairs(all) do
      if known.version == version and tonumber(known.used) < day then
        known.used, changed = ARGV[1], true
      end
    end
    if changed then note(key, slot, all) end
  end
end
begin_life(key, ARGV[2])
return 1
