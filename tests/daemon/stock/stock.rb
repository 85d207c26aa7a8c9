# SPDX-License-Identifier: MIT
# redis-rb against the daemon, as stock.py expects it: a line for each check.
require "redis"

PATH = ARGV[0]

def client
  Redis.new(path: PATH, timeout: 30)
end

def same(name, got, wanted)
  puts got == wanted ? "ok #{name}" : "not ok #{name}: got #{got.inspect}, wanted #{wanted.inspect}"
end

r = client
all = (0..255).map(&:chr).join.b
same("ping", r.ping, "PONG")
same("strings", [r.set("rb:s", all), r.get("rb:s").b == all, r.get("rb:none")], ["OK", true, nil])
same("set with options", [r.set("rb:t", "x", nx: true, ex: 60), r.set("rb:t", "y", nx: true), r.ttl("rb:t"),
                          r.set("rb:t", "z", get: true, keepttl: true)], [true, false, 60, "x"])
same("counters", [r.incr("rb:n"), r.incrby("rb:n", 9), r.decr("rb:n"), r.incrbyfloat("rb:f", 0.5)], [1, 10, 9, 0.5])
same("several", [r.mset("rb:a", 1, "rb:b", 2), r.mget("rb:a", "rb:none", "rb:b")], ["OK", ["1", nil, "2"]])
same("hashes", [r.hset("rb:h", "f", "v"), r.hmset("rb:h", "g", "w", "n", 1), r.hget("rb:h", "f"), r.hincrby("rb:h", "n", 4),
                r.hlen("rb:h"), r.hexists("rb:h", "x"), r.hdel("rb:h", "f")], [1, "OK", "v", 5, 3, false, 1])
same("a whole hash", r.hgetall("rb:h"), { "g" => "w", "n" => "5" })
same("a walk", r.hscan_each("rb:h", match: "g*").to_a, [["g", "w"]])
same("a walk over keys", r.scan_each(match: "rb:[ab]").to_a.uniq.sort, ["rb:a", "rb:b"])
same("lists", [r.rpush("rb:l", %w[a b c]), r.lrange("rb:l", 0, -1), r.lpop("rb:l"), r.llen("rb:l"), r.lindex("rb:l", -1),
               r.lmove("rb:l", "rb:m", "RIGHT", "LEFT")], [3, %w[a b c], "a", 2, "c", "c"])
same("types", [r.type("rb:l"), r.type("rb:h"), r.type("rb:s")], %w[list hash string])
same("a blocking pop that ends", r.blpop("rb:none", timeout: 0.1), nil)
popper = Thread.new { client.blpop("rb:none", "rb:q", timeout: 20) }
r.call("TASK.SUBMIT", "use", "append", "", "ARG", "rb:q", "ARG", "job", "ARG", "1")
same("a blocking pop", popper.value, ["rb:q", "job:0"])
same("a transaction", r.multi { |t| t.set("rb:x", 1); t.incr("rb:x"); t.hgetall("rb:none") }, ["OK", 2, {}])
changed = r.watch("rb:x") do
  client.set("rb:x", 7)
  r.multi { |t| t.set("rb:x", 8) }
end
same("a watched key that changes", changed, nil)
same("a pipeline", r.pipelined { |p| 1000.times { p.incr("rb:p") } }.sum, 500_500)
begin
  r.lpush("rb:s", "x")
  puts "not ok an error: none"
rescue Redis::CommandError => e
  same("an error", e.message.start_with?("WRONGTYPE"), true)
end
same("a task", r.call("TASK.CALL", "demo", "echo", all).b == all, true)
id = r.call("TASK.SUBMIT", "demo", "echo", "hello")
heard = []
listener = client
listener.subscribe("task:#{id}", "rb:news") do |on|
  on.subscribe { |channel, _| r.publish("rb:news", "hi") if channel == "rb:news" }
  on.message do |channel, message|
    heard << [channel, message]
    listener.unsubscribe if heard.size == 2
  end
end
same("pub/sub", heard.sort, [["rb:news", "hi"], ["task:#{id}", "#{id} done \nhello"]])
same("the end", r.del(*r.keys("rb:*")) > 5, true)
