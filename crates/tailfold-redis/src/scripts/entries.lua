-- What is known of a snapshot is a line: version, chain, bytes of the envelope, day of the last use.
local function entry(line)
  local version, chain, bytes, used = string.match(line or '', '^(%d+) (%x+) (%d+) (%-?%d+)$')
  return version and { version = version, chain = chain, bytes = bytes, used = used }
end

local function line(known)
  return known.version .. ' ' .. known.chain .. ' ' .. known.bytes .. ' ' .. known.used
end

-- Versions have up to 20 digits, more than a number here holds.
local function above(one, other)
  if #one ~= #other then return #one > #other end
  return one > other
end

-- The snapshots of a slot, newest first, each with the field of its envelope.
local function kept(key, slot)
  local all = {}
  local lines = redis.call('HMGET', key, slot .. ':head', slot .. ':older')
  local newest = entry(lines[1])
  if newest and redis.call('HEXISTS', key, slot) == 1 then
    newest.field = slot
    all[1] = newest
  end
  for text in string.gmatch(lines[2] or '', '[^\n]+') do
    local older = entry(text)
    if older then
      older.field = slot .. ':' .. older.version
      all[#all + 1] = older
    end
  end
  return all
end

local function move(key, from, to)
  redis.call('HSET', key, to, redis.call('HGET', key, from) or '')
  redis.call('HDEL', key, from)
end

-- The newest envelope is in the slot's own field.
local function raise(key, slot, newest)
  if newest and newest.field ~= slot then
    move(key, newest.field, slot)
    newest.field = slot
  end
end

local function note(key, slot, all)
  if all[1] then
    redis.call('HSET', key, slot .. ':head', line(all[1]))
  else
    redis.call('HDEL', key, slot .. ':head')
  end
  if all[2] then
    local lines = {}
    for place = 2, #all do lines[place - 1] = line(all[place]) end
    redis.call('HSET', key, slot .. ':older', table.concat(lines, '\n'))
  else
    redis.call('HDEL', key, slot .. ':older')
  end
end

local function is_ours(key)
  return redis.call('TYPE', key).ok == 'hash'
end

-- The slots of a key, of one fold and serial where they are not empty.
local function slots(key, fold, serial)
  local found, seen = {}, {}
  if not is_ours(key) then return found end
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local of_fold, of_serial = string.match(field, '^([^:]+):([^:]+):%l+$')
    local slot = of_fold and (of_fold .. ':' .. of_serial)
    if slot and not seen[slot] and (fold == '' or fold == of_fold) and (serial == '' or serial == of_serial) then
      seen[slot] = true
      found[#found + 1] = slot
    end
  end
  return found
end

-- Begins the life of a key anew: so many seconds, or without an end where it is '0', for what is no snapshot.
-- A server that refuses to write can serve a load all the same.
local function begin_life(key, seconds)
  if seconds == '0' then return redis.pcall('PERSIST', key) end
  return redis.pcall('EXPIRE', key, seconds)
end

-- The policy by which the server drops any key when its memory is full, if it has such; nothing where it does
-- not say.
local function evicts_any()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return nil end
  local most = tonumber(string.match(info, 'maxmemory:(%d+)') or '0')
  return most > 0 and string.match(info, 'maxmemory_policy:(allkeys%-%a+)') or nil
end
