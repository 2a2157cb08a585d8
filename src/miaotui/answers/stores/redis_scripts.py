"""What Redis does by itself, so that a row and its places in the indexes change together.

All keys of a tenant share a hash tag, so a cluster keeps them on one server; scripts get the tenant's prefix as their
key and append to it. Of each kind there are, behind the prefix and the kind:

    row:KEY       the row, as a hash; Redis removes it when it expires
    by_age        every row's key by `created_s`
    by_use        every row's key by when it was last used
    by_end        the keys of rows that expire, by when
    group:G, model:M, tag:T    keys by `created_s`, under a hash of the name
    notes         what a row's key stands in, for when Redis has removed the row itself
    bytes         the sum of what rows are charged with
"""

from __future__ import annotations

COMMON = """
local base = KEYS[1]
local function forget(kind, key)
    local at = base .. kind .. ':'
    local packed = redis.call('HGET', at .. 'notes', key)
    if not packed then return 0 end
    local note = cmsgpack.unpack(packed)
    redis.call('UNLINK', at .. 'row:' .. key)
    for _, index in ipairs({'by_age', 'by_use', 'by_end'}) do redis.call('ZREM', at .. index, key) end
    for i = 2, #note do redis.call('ZREM', at .. note[i], key) end
    redis.call('HDEL', at .. 'notes', key)
    redis.call('INCRBY', at .. 'bytes', -note[1])
    return note[1]
end
local function sweep(kind, most)
    local time = redis.call('TIME')
    local now = time[1] .. '.' .. string.format('%06d', time[2])
    local ended = redis.call('ZRANGE', base .. kind .. ':by_end', '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
    for _, key in ipairs(ended) do forget(kind, key) end
    return #ended
end
"""

PUT = (
    COMMON
    + """
-- For each row: kind, key, created_s, expires_s or '', its milliseconds or '', num_bytes, number of indexes, their
-- names, number of fields and values, those; or kind, key, '' to remove it.
local i = 1
local function take() i = i + 1; return ARGV[i - 1] end
while i <= #ARGV do
    local kind, key, created = take(), take(), take()
    local at = base .. kind .. ':'
    forget(kind, key)
    if created ~= '' then
        local expires, expires_ms, num_bytes = take(), take(), tonumber(take())
        local note = {num_bytes}
        redis.call('ZADD', at .. 'by_age', created, key)
        redis.call('ZADD', at .. 'by_use', created, key)
        if expires ~= '' then redis.call('ZADD', at .. 'by_end', expires, key) end
        for n = 1, tonumber(take()) do
            note[n + 1] = take()
            redis.call('ZADD', at .. note[n + 1], created, key)
        end
        redis.call('HSET', at .. 'notes', key, cmsgpack.pack(note))
        redis.call('INCRBY', at .. 'bytes', num_bytes)
        for n = 1, tonumber(take()) / 2 do redis.call('HSET', at .. 'row:' .. key, take(), take()) end
        if expires_ms ~= '' then redis.call('PEXPIREAT', at .. 'row:' .. key, expires_ms) end
    end
    sweep(kind, 32)
end
return 1
"""
)

FORGET = (
    COMMON
    + """
-- kind, keys: how many of the rows there were.
local num = 0
for i = 2, #ARGV do
    if redis.call('HEXISTS', base .. ARGV[1] .. ':notes', ARGV[i]) == 1 then
        forget(ARGV[1], ARGV[i])
        num = num + 1
    end
end
return num
"""
)

EVICT = (
    COMMON
    + """
-- kind, key: the bytes it was charged with.
return forget(ARGV[1], ARGV[2])
"""
)

TIDY = (
    COMMON
    + """
-- kind, keys: drop those from the indexes whose rows Redis has removed.
for i = 2, #ARGV do
    if redis.call('EXISTS', base .. ARGV[1] .. ':row:' .. ARGV[i]) == 0 then forget(ARGV[1], ARGV[i]) end
end
return 1
"""
)

COUNT = (
    COMMON
    + """
-- kind: rows and bytes, once those that have expired are gone; -1 where some may be left.
if sweep(ARGV[1], 1000) == 1000 then return {-1, 0} end
local at = base .. ARGV[1] .. ':'
return {redis.call('ZCARD', at .. 'by_age'), tonumber(redis.call('GET', at .. 'bytes') or '0')}
"""
)

CLAIM = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
