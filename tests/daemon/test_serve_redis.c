/* SPDX-License-Identifier: MIT */
/* Outside judges. redis-server: what both of us know must be answered alike, byte for byte as far
 * as it can be. redis-cli and python3-redis: real clients, doing the main job. A judge that is not
 * installed is skipped, and says so. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"
#include "tests/support/child.h"
#include "tests/support/tmp.h"

static struct wire w, redis;
static char dir[TMP_PATH];

static void end(void) {
    wire_close(&w);
    wire_close(&redis);
    serve_end(); /* kills redis-server too */
    if (dir[0]) {
        cr_assert_eq(tmp_remove(dir), 0);
    }
}

TestSuite(serve_redis, .timeout = 100, .fini = end);

static bool have(const char *program) {
    const char *const argv[] = {"sh", "-c", "command -v \"$0\" >/dev/null", program, NULL};
    struct child_output o;
    cr_assert_eq(child_run(argv, NULL, "", 0, &o), 0);
    bool found = o.status == 0;
    child_output_deinit(&o);
    if (!found) {
        fprintf(stderr, "SKIPPED: %s is not installed, nobody has compared us with it\n", program);
    }
    return found;
}

/* A redis-server of its own, connected in `redis`. */
static void begin_redis(void) {
    char path[TMP_PATH + 16];
    int out[2];
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(path, sizeof(path), "%s/redis.sock", dir);
    cr_assert_eq(pipe(out), 0);
    const char *const argv[] = {
        "redis-server", "--port", "0",           "--unixsocket", path,           "--save", "",
        "--dir",        dir,      "--daemonize", "no",           "--appendonly", "no",     NULL};
    pid_t pid = child_exec(argv, NULL, -1, out[1], -1);
    cr_assert_gt(pid, 0);
    close(out[1]);
    char text[65536];
    size_t n = 0;
    ssize_t r = 0;
    text[0] = '\0';
    while (!strstr(text, "eady to accept connections") && n < sizeof(text) - 1 &&
           (r = read(out[0], text + n, sizeof(text) - 1 - n)) > 0) {
        n += (size_t)r;
        text[n] = '\0';
    }
    cr_assert_gt(r, 0, "redis-server does not start: %s", text);
    close(out[0]); /* it logs into the void from here on */
    cr_assert_eq(wire_open(&redis, path), 0);
}

/* Both are told the same lines; `n` messages come from each, and must be alike. */
static void same(const char *line, int n) {
    tell(&w, "%s", line);
    tell(&redis, "%s", line);
    for (int i = 0; i < n; i++) {
        char *theirs = strdup(hear(&redis));
        const char *ours = hear(&w);
        cr_assert_str_eq(ours, theirs, "%s\n  redis: %s\n  ours:  %s", line, theirs, ours);
        free(theirs);
    }
}

Test(serve_redis, answers_as_redis_does) {
    static const char *const lines[] = {
        "PING",
        "PING x",
        "ping 'a b'",
        "PING a b",
        "ECHO x",
        "ECHO",
        "ECHO a b",
        "NOSUCH",
        "NOSUCH a b 'c d'",
        "nosuch\t1 2",
        "'' x",
        "SELECT 0",
        "SELECT 99",
        "SELECT x",
        "SELECT",
        "AUTH a b c d",
        "HELLO 9",
        "HELLO x",
        "HELLO 2 NOSUCH",
        "HELLO 2 SETNAME",
        "HELLO 2 SETNAME 'a b'",
        "CLIENT",
        "CLIENT NOSUCH",
        "CLIENT GETNAME",
        "CLIENT GETNAME x",
        "CLIENT SETNAME me",
        "CLIENT GETNAME",
        "CLIENT SETNAME 'a b'",
        "CLIENT SETNAME ''",
        "CLIENT GETNAME",
        "CLIENT KILL ID 0",
        "CLIENT KILL ID x",
        "CLIENT KILL ID 999999",
        "CLIENT KILL nobody:1",
        "CLIENT KILL TYPE pubsub",
        "CLIENT KILL TYPE nosuch",
        "CLIENT KILL ID 1 ADDR",
        "CLIENT UNBLOCK 999",
        "CLIENT UNBLOCK x",
        "CLIENT UNBLOCK 1 NEVER",
        "CLIENT REPLY",
        "CLIENT REPLY NOSUCH",
        "CLIENT REPLY ON",
        "CLIENT NO-EVICT ON",
        "CLIENT NO-EVICT x",
        "CLIENT TRACKING OFF",
        "CLIENT TRACKING x",
        "CLIENT GETREDIR",
        "CLIENT LIST TYPE nosuch",
        "CLIENT LIST ID x",
        "CLIENT LIST NOSUCH",
        "CONFIG",
        "CONFIG NOSUCH",
        "CONFIG GET",
        "CONFIG GET save",
        "CONFIG GET appendonly",
        "CONFIG GET nosuch",
        "CONFIG RESETSTAT",
        "CONFIG RESETSTAT x",
        "COMMAND NOSUCH",
        "COMMAND COUNT x",
        "COMMAND INFO nosuch",
        "COMMAND DOCS nosuch",
        "COMMAND LIST x",
        "COMMAND LIST FILTERBY MODULE x",
        "COMMAND GETKEYS nosuch",
        "COMMAND GETKEYS nosuch x",
        "COMMAND GETKEYS PING",
        "COMMAND GETKEYS PING a b c",
        "TIME x",
        "FUNCTION",
        "FUNCTION LIST",
        "FUNCTION FLUSH",
        "FUNCTION FLUSH SYNC",
        "FUNCTION FLUSH x",
        "FUNCTION NOSUCH",
        "PUBLISH",
        "PUBLISH a b",
        "PUBSUB",
        "PUBSUB NOSUCH",
        "PUBSUB CHANNELS",
        "PUBSUB CHANNELS a*",
        "PUBSUB NUMSUB",
        "PUBSUB NUMSUB a b",
        "PUBSUB NUMPAT",
        "PUBSUB CHANNELS a b",
        "PUBSUB NUMPAT x",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "UNSUBSCRIBE a",
        "PUNSUBSCRIBE a",
        "SUBSCRIBE",
    };
    if (!have("redis-server")) {
        return;
    }
    serve_begin(NULL);
    serve_connect(&w);
    begin_redis();
    for (int proto = 2; proto <= 3; proto++) {
        for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
            same(lines[i], 1);
        }
        tell(&w, "HELLO 3");
        tell(&redis, "HELLO 3");
        hear(&w);
        hear(&redis);
    }
    same("RESET", 1);
    same("QUIT", 1);
    expect_closed(&w);
}

Test(serve_redis, publishes_as_redis_does) {
    if (!have("redis-server")) {
        return;
    }
    serve_begin(NULL);
    serve_connect(&w);
    begin_redis();
    same("SUBSCRIBE a b", 2);
    same("PSUBSCRIBE h[ae]llo h*o", 2);
    same("SUBSCRIBE a", 1);
    same("PING", 1);
    same("PING x", 1);
    same("ECHO x", 1);
    same("PUBLISH a x", 1);
    same("UNSUBSCRIBE a none", 2);
    same("RESET", 1);
    tell(&w, "HELLO 3");
    tell(&redis, "HELLO 3");
    hear(&w);
    hear(&redis);
    same("SUBSCRIBE hello", 1);
    same("PSUBSCRIBE h[^e]llo", 1);
    same("PUBLISH hello x", 2); /* the message, and how many got it, in Redis's order */
    same("PUBLISH hallo x", 2);
    same("ECHO x", 1);
    same("PUBSUB NUMSUB hello", 1);
    same("UNSUBSCRIBE", 1);
    same("PUNSUBSCRIBE", 1);
    static const char *const patterns[] = {
        "*",       "a*",      "*c",   "a*c", "?bc",  "[a-c]bc", "[^a]bc",
        "[c-a]bc", "a\\bc",   "abc*", "**",  "a**c", "[abc",    "[\\a]bc",
        "*b*",     "*a*b*c*", "*d*",  "a?c", "ab",   "abcd",    "[b]bc"};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        char line[64];
        tell(&w, "PSUBSCRIBE \"%s\"", patterns[i]);
        tell(&redis, "PSUBSCRIBE \"%s\"", patterns[i]);
        hear(&w);
        hear(&redis);
        tell(&w, "PUBLISH abc x");
        tell(&redis, "PUBLISH abc x");
        snprintf(line, sizeof(line), "%s", hear(&redis));
        cr_assert_str_eq(hear(&w), line, "pattern %s: redis %s", patterns[i], line);
        if (line[0] == '>') {
            hear(&w);
            hear(&redis);
        }
        tell(&w, "PUNSUBSCRIBE");
        tell(&redis, "PUNSUBSCRIBE");
        hear(&w);
        hear(&redis);
    }
}

static void run(const char *const argv[], const char *in, struct child_output *o) {
    cr_assert_eq(child_run(argv, NULL, in, strlen(in), o), 0);
    cr_assert_eq(o->status, 0, "%s: %.*s %.*s", argv[0], (int)buf_len(&o->out), buf_head(&o->out),
                 (int)buf_len(&o->err), buf_head(&o->err));
}

Test(serve_redis, redis_cli) {
    if (!have("redis-cli")) {
        return;
    }
    serve_begin(NULL);
    struct child_output o;
    const char *const pipe_in[] = {"redis-cli", "-s", server.socket, NULL};
    run(pipe_in,
        "PING\nTASK.CALL demo echo \"hello world\"\nTASK.CALL demo fail \"\" ARG why\nCOMMAND "
        "COUNT\n",
        &o);
    cr_assert(like("PONG\nhello world\nFAILED 1 why\n\n*", buf_head(&o.out)), "%s",
              buf_head(&o.out));
    child_output_deinit(&o);
    const char *const three[] = {"redis-cli", "-s", server.socket, "-3", "POOL.INFO", "demo", NULL};
    run(three, "", &o);
    cr_assert(strstr(buf_head(&o.out), "demo"));
    child_output_deinit(&o);
    /* a pipeline of 10,000, by its mass insertion mode */
    const char *const mass[] = {"redis-cli", "-s", server.socket, "--pipe", NULL};
    struct buf in = BUF_INIT;
    for (int i = 0; i < 10000; i++) {
        resp_put_command(&in, "TASK.SUBMIT", "demo", "echo", "hello", NULL);
    }
    cr_assert_eq(buf_append(&in, "", 1), 0);
    run(mass, buf_head(&in), &o);
    cr_assert(strstr(buf_head(&o.out), "errors: 0, replies: 10000"), "%s", buf_head(&o.out));
    child_output_deinit(&o);
    buf_deinit(&in);
}

static const char python[] =
    "import sys, threading\n"
    "import redis\n"
    "r = redis.Redis(unix_socket_path=sys.argv[1], socket_timeout=20, client_name='py')\n"
    "assert r.ping() and r.client_getname() == 'py'\n"
    "assert r.execute_command('TASK.CALL', 'demo', 'echo', b'\\x00\\xff') == b'\\x00\\xff'\n"
    "try:\n"
    "    r.execute_command('TASK.CALL', 'demo', 'fail', '', 'ARG', 'why')\n"
    "    assert False\n"
    "except redis.ResponseError as e:\n"
    "    assert str(e) == 'FAILED 1 why', e\n"
    "assert r.info()['redis_version'].startswith('7.') and r.config_get('save') == {'save': ''}\n"
    "assert r.info('clients')['connected_clients'] >= 1\n"
    "assert r.client_list()[0]['name'] == 'py'\n"
    "p = r.pipeline(transaction=False)\n"
    "for i in range(2000):\n"
    "    p.execute_command('TASK.SUBMIT', 'demo', 'echo', str(i))\n"
    "ids = p.execute()\n"
    "for i, id in enumerate(ids):\n"
    "    assert r.execute_command('TASK.WAIT', id) == [id, b'done', str(i).encode(), b'']\n"
    "s = r.pubsub(ignore_subscribe_messages=True)\n"
    "ids = [r.execute_command('TASK.SUBMIT', 'demo', 'echo', str(i)) for i in range(20)]\n"
    "s.subscribe(*['task:' + i.decode() for i in ids])\n"
    "got = {}\n"
    "while len(got) < 20:\n"
    "    m = s.get_message(timeout=20)\n"
    "    if m:\n"
    "        got[m['channel'][5:]] = m['data'].split(b'\\n', 1)[1]\n"
    "assert [got[i] for i in ids] == [str(i).encode() for i in range(20)]\n"
    "print('all well')\n";

Test(serve_redis, python_redis) {
    const char *const probe[] = {"/usr/bin/python3", "-c", "import redis", NULL};
    struct child_output o;
    cr_assert_eq(child_run(probe, NULL, "", 0, &o), 0);
    int found = o.status == 0;
    child_output_deinit(&o);
    if (!found) {
        fprintf(stderr, "SKIPPED: python3-redis is not installed, it has not been tried with us\n");
        return;
    }
    serve_begin(NULL);
    const char *const argv[] = {"/usr/bin/python3", "-c", python, server.socket, NULL};
    run(argv, "", &o);
    cr_assert(strstr(buf_head(&o.out), "all well"));
    child_output_deinit(&o);
}
