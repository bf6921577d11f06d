-- Slot, envelope, line, how many to keep, seconds to live -> {1, pruned}, or {0, the newer line};
-- or {2, policy} where it is to live for ever, and the server would drop it.
local key, slot, envelope, saved, most = KEYS[1], ARGV[1], ARGV[2], entry(ARGV[3]), tonumber(ARGV[4])
local policy = ARGV[5] == '0' and evicts_any()
if policy then return { 2, policy } end
if redis.call('EXISTS', key) == 1 and not is_ours(key) then redis.call('UNLINK', key) end
local all = kept(key, slot)
local place = 1
while all[place] and above(all[place].version, saved.version) do place = place + 1 end
if place > most then return { 0, line(all[1]) } end

local there = all[place]
if there and there.version == saved.version then
  if there.field ~= slot then redis.call('HDEL', key, there.field) end
  all[place] = saved
else
  table.insert(all, place, saved)
end
local pruned = 0
while #all > most do
  local gone = table.remove(all)
  if gone.field ~= slot then redis.call('HDEL', key, gone.field) end
  pruned = pruned + 1
end

if place == 1 then
  local second = all[2]
  if second and second.field == slot then move(key, slot, slot .. ':' .. second.version) end
  redis.call('HSET', key, slot, envelope)
else
  redis.call('HSET', key, slot .. ':' .. saved.version, envelope)
  raise(key, slot, all[1])
end
note(key, slot, all)
begin_life(key, ARGV[5])
return { 1, pruned }
