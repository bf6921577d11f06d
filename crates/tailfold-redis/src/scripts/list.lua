-- Fold, serial -> slot, line, slot, line ... of all that is kept of a key.
local found = {}
for _, slot in ipairs(slots(KEYS[1], ARGV[1], ARGV[2])) do
  for _, known in ipairs(kept(KEYS[1], slot)) do
    found[#found + 1] = slot
    found[#found + 1] = line(known)
  end
end
return found
