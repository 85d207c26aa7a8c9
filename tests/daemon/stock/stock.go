// SPDX-License-Identifier: MIT

// Go's redigo against the daemon, as stock.py expects it: a line for each check.
package main

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

func client() redis.Conn {
	c, err := redis.Dial("unix", os.Args[1])
	if err != nil {
		panic(err)
	}
	return c
}

func same(name string, got, wanted interface{}) {
	if reflect.DeepEqual(got, wanted) {
		fmt.Println("ok", name)
	} else {
		fmt.Printf("not ok %s: got %v, wanted %v\n", name, got, wanted)
	}
}

var r = client()

func do(command string, args ...interface{}) interface{} {
	v, err := r.Do(command, args...)
	if err != nil {
		return err
	}
	if b, is := v.([]byte); is {
		return string(b)
	}
	return v
}

func texts(command string, args ...interface{}) []string {
	v, err := redis.Strings(r.Do(command, args...))
	if err != nil {
		return []string{err.Error()}
	}
	return v
}

type list []interface{}

func main() {
	bytes := make([]byte, 256)
	for i := range bytes {
		bytes[i] = byte(i)
	}
	all := string(bytes)
	same("ping", do("PING"), "PONG")
	same("strings", list{do("SET", "go:s", all), do("GET", "go:s") == all, do("GET", "go:none")}, list{"OK", true, nil})
	same("set with options", list{do("SET", "go:t", "x", "NX", "EX", 60), do("SET", "go:t", "y", "NX"), do("TTL", "go:t")},
		list{"OK", nil, int64(60)})
	same("counters", list{do("INCR", "go:n"), do("INCRBY", "go:n", 9), do("DECR", "go:n"), do("INCRBYFLOAT", "go:f", 0.5)},
		list{int64(1), int64(10), int64(9), "0.5"})
	same("several", list{do("MSET", "go:a", 1, "go:b", 2), texts("MGET", "go:a", "go:none", "go:b")},
		list{"OK", []string{"1", "", "2"}})
	same("hashes", list{do("HSET", "go:h", "f", "v"), do("HMSET", redis.Args{}.Add("go:h").AddFlat(map[string]string{"g": "w",
		"n": "1"})...), do("HGET", "go:h", "f"), do("HINCRBY", "go:h", "n", 4), do("HLEN", "go:h"), do("HEXISTS", "go:h", "x"),
		do("HDEL", "go:h", "f")}, list{int64(1), "OK", "v", int64(5), int64(3), int64(0), int64(1)})
	h, _ := redis.StringMap(r.Do("HGETALL", "go:h"))
	same("a whole hash", h, map[string]string{"g": "w", "n": "5"})
	same("lists", list{do("RPUSH", "go:l", "a", "b", "c"), texts("LRANGE", "go:l", 0, -1), do("LPOP", "go:l"), do("LLEN", "go:l"),
		do("LINDEX", "go:l", -1), do("LMOVE", "go:l", "go:m", "RIGHT", "LEFT")},
		list{int64(3), []string{"a", "b", "c"}, "a", int64(2), "c", "c"})
	same("a blocking pop that ends", do("BLPOP", "go:none", 0.1), nil)
	popped := make(chan []string)
	go func() {
		c := client()
		v, _ := redis.Strings(c.Do("BLPOP", "go:none", "go:q", 20))
		popped <- v
	}()
	do("TASK.SUBMIT", "use", "append", "", "ARG", "go:q", "ARG", "job", "ARG", 1)
	same("a blocking pop", <-popped, []string{"go:q", "job:0"})
	r.Send("MULTI")
	r.Send("SET", "go:x", 1)
	r.Send("INCR", "go:x")
	v, err := redis.Values(r.Do("EXEC"))
	same("a transaction", list{v, err}, list{[]interface{}{"OK", int64(2)}, nil})
	do("WATCH", "go:x")
	client().Do("SET", "go:x", 7)
	r.Send("MULTI")
	r.Send("SET", "go:x", 8)
	same("a watched key that changes", do("EXEC"), nil)
	sum := 0
	for i := 0; i < 1000; i++ {
		r.Send("INCR", "go:p")
	}
	r.Flush()
	for i := 0; i < 1000; i++ {
		n, _ := redis.Int(r.Receive())
		sum += n
	}
	same("a pipeline", sum, 500500)
	_, err = r.Do("LPUSH", "go:s", "x")
	same("an error", err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE"), true)
	same("a task", do("TASK.CALL", "demo", "echo", all) == all, true)
	id := do("TASK.SUBMIT", "demo", "echo", "hello").(string)
	listener := redis.PubSubConn{Conn: client()}
	listener.Subscribe("task:"+id, "go:news")
	heard := []string{}
	for len(heard) < 2 {
		switch m := listener.ReceiveWithTimeout(20 * time.Second).(type) {
		case redis.Subscription:
			if m.Channel == "go:news" {
				do("PUBLISH", "go:news", "hi")
			}
		case redis.Message:
			heard = append(heard, m.Channel+" "+string(m.Data))
		case error:
			heard = append(heard, m.Error(), "")
		}
	}
	sort.Strings(heard)
	same("pub/sub", heard, []string{"go:news hi", "task:" + id + " " + id + " done \nhello"})
	keys, _ := redis.Values(r.Do("KEYS", "go:*"))
	same("the end", do("DEL", keys...).(int64) > 5, true)
}
