-- Slot, version, chain, envelope -> 1 if that was there and is gone.
local key, slot, version, chain, envelope = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not is_ours(key) then return 0 end
local all = kept(key, slot)
for place, known in ipairs(all) do
  if known.version == version and known.chain == chain and redis.call('HGET', key, known.field) == envelope then
    redis.call('HDEL', key, known.field)
    table.remove(all, place)
    raise(key, slot, all[1])
    note(key, slot, all)
    return 1
  end
end
return 0
