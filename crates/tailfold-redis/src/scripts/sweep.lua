-- Fold, serial, day, fold that stays -> {snapshots, bytes} last used before the day, which are gone.
local key, day, lasting = KEYS[1], tonumber(ARGV[3]), ARGV[4]
local snapshots, bytes = 0, 0
for _, slot in ipairs(slots(key, ARGV[1], ARGV[2])) do
  local stay, found = {}, kept(key, slot)
  for _, known in ipairs(found) do
    if tonumber(known.used) < day and string.match(slot, '^[^:]+') ~= lasting then
      redis.call('HDEL', key, known.field)
      snapshots, bytes = snapshots + 1, bytes + tonumber(known.bytes)
    else
      stay[#stay + 1] = known
    end
  end
  if #stay < #found then
    raise(key, slot, stay[1])
    note(key, slot, stay)
  end
end
return { snapshots, bytes }
