-- SPDX-License-Identifier: MIT
-- redis-lua (with luasocket's Unix sockets) against the daemon, as stock.py expects it: a line for each check.
local redis = require 'redis'
local path = arg[1]

for _, name in ipairs { 'task.call', 'task.submit' } do
    redis.commands[name:gsub('%.', '_')] = redis.command(name:upper())
end

local function client()
    return redis.connect('unix://' .. path)
end

local function text(v)
    if type(v) ~= 'table' then
        return tostring(v)
    end
    local parts = {}
    for i = 1, #v do
        parts[i] = text(v[i])
    end
    return '[' .. table.concat(parts, ' ') .. ']'
end

local function same(name, got, wanted)
    got, wanted = text(got), text(wanted)
    print(got == wanted and 'ok ' .. name or 'not ok ' .. name .. ': got ' .. got .. ', wanted ' .. wanted)
end

local r = client()
local bytes = {}
for i = 0, 255 do
    bytes[i + 1] = string.char(i)
end
local all = table.concat(bytes)
same('ping', r:ping(), true)
same('strings', { r:set('lua:s', all), r:get('lua:s') == all, r:exists('lua:none') }, { true, true, false })
same('set with options', { r:setnx('lua:t', 'x'), r:expire('lua:t', 60), r:setnx('lua:t', 'y'), r:ttl('lua:t') },
    { true, true, false, 60 })
same('counters', { r:incr('lua:n'), r:incrby('lua:n', 9), r:decr('lua:n'), r:incrbyfloat('lua:f', 0.5) }, { 1, 10, 9, 0.5 })
r:mset { ['lua:a'] = 1, ['lua:b'] = 2 }
same('several', r:mget('lua:a', 'lua:b'), { 1, 2 })
same('hashes', { r:hset('lua:h', 'f', 'v'), r:hmset('lua:h', { g = 'w', n = 1 }), r:hget('lua:h', 'f'),
    r:hincrby('lua:h', 'n', 4), r:hlen('lua:h'), r:hexists('lua:h', 'x'), r:hdel('lua:h', 'f') },
    { true, true, 'v', 5, 3, false, 1 })
local h = r:hgetall('lua:h')
same('a whole hash', { h.g, h.n, h.f or 'gone' }, { 'w', 5, 'gone' })
same('lists', { r:rpush('lua:l', 'a', 'b', 'c'), r:lrange('lua:l', 0, -1), r:lpop('lua:l'), r:llen('lua:l'),
    r:lindex('lua:l', -1), r:rpoplpush('lua:l', 'lua:m') }, { 3, { 'a', 'b', 'c' }, 'a', 2, 'c', 'c' })
same('types', { r:type('lua:l'), r:type('lua:h'), r:type('lua:s') }, { 'list', 'hash', 'string' })
same('a blocking pop that ends', r:blpop('lua:none', 0.1), nil)
r:task_submit('use', 'append', '', 'ARG', 'lua:q', 'ARG', 'job', 'ARG', 1)
same('a blocking pop', r:blpop('lua:none', 'lua:q', 20), { 'lua:q', 'job:0' })
local replies = r:transaction(function(t)
    t:set('lua:x', 1)
    t:incr('lua:x')
end)
same('a transaction', replies, { true, 2 })
local ok = pcall(function()
    r:transaction({ watch = 'lua:x', cas = true, retry = 0 }, function(t)
        client():set('lua:x', 7)
        t:multi()
        t:set('lua:x', 8)
    end)
end)
same('a watched key that changes', { ok, client():get('lua:x') }, { false, 7 })
r = client()
local sum = 0
for _, v in ipairs(r:pipeline(function(p)
    for _ = 1, 1000 do
        p:incr('lua:p')
    end
end)) do
    sum = sum + v
end
same('a pipeline', sum, 500500)
local good, why = pcall(r.lpush, r, 'lua:s', 'x')
same('an error', { good, why:match('WRONGTYPE') }, { false, 'WRONGTYPE' })
same('a task', r:task_call('demo', 'echo', all) == all, true)
local id = r:task_submit('demo', 'echo', 'hello')
local heard = {}
for message, abort in client():pubsub { subscribe = { 'task:' .. id, 'lua:news' } } do
    if message.kind == 'subscribe' and message.channel == 'lua:news' then
        r:publish('lua:news', 'hi')
    elseif message.kind == 'message' then
        heard[#heard + 1] = message.channel .. ' ' .. message.payload
        if #heard == 2 then
            abort()
        end
    end
end
table.sort(heard)
same('pub/sub', heard, { 'lua:news hi', 'task:' .. id .. ' ' .. id .. ' done \nhello' })
same('the end', r:del(unpack(r:keys('lua:*'))) > 5, true)
