-- Slot, version, seconds to live -> {envelope, line} of the newest that is not above it, or nothing.
local key, slot, bound = KEYS[1], ARGV[1], ARGV[2]
for _, known in ipairs(kept(key, slot)) do
  if not above(known.version, bound) then
    begin_life(key, ARGV[3])
    return { redis.call('HGET', key, known.field), line(known) }
  end
end
return {}
