-- -> {snapshots, bytes} of a key, which is gone, whatever it held.
local snapshots, bytes = 0, 0
for _, slot in ipairs(slots(KEYS[1], '', '')) do
  for _, known in ipairs(kept(KEYS[1], slot)) do
    snapshots, bytes = snapshots + 1, bytes + tonumber(known.bytes)
  end
end
redis.call('UNLINK', KEYS[1])
return { snapshots, bytes }
