/* SPDX-License-Identifier: MIT */
/* Clients that break the rules, are slow, or are too many; a daemon that runs out of descriptors or
 * of memory. What counts each time: the others are served, memory is bounded, nothing accepted is
 * lost. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w, other;

static void end(void) {
    wire_close(&w);
    wire_close(&other);
    serve_end();
}

static void begin(const char *config) {
    serve_begin(config);
    serve_connect(&w);
}

TestSuite(serve_bad, .timeout = 110, .fini = end);

#define POOL "pools = ( { name = \"demo\"; workers = 1; module = \"demo.so\"; } );\n"

/* ---- malformed ---- */

Test(serve_bad, malformed_requests_are_answered_and_closed) {
    static const struct {
        const char *bytes, *reply;
    } bad[] = {
        {"*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'"},
        {"*x\r\n", "-ERR Protocol error: invalid multibulk length"},
        {"*1048577\r\n", "-ERR Protocol error: invalid multibulk length"},
        {"*1\r\n$x\r\n", "-ERR Protocol error: invalid bulk length"},
        {"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length"},
        {"*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length"},
        {"PING \"open\r\n", "-ERR Protocol error: unbalanced quotes in request"},
    };
    begin(NULL);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        serve_connect(&other);
        expect(&other, "+PONG", "PING");
        cr_assert_eq(wire_send_raw(&other, bad[i].bytes, strlen(bad[i].bytes)), 0);
        expect_next(&other, bad[i].reply);
        expect_closed(&other);
        wire_close(&other);
    }
    cr_assert_eq(info_number(&w, "protocol_errors"), 7);
    cr_assert_eq(info_number(&w, "connected_clients"), 1);
}

Test(serve_bad, http_is_closed_without_a_word) {
    static const char *const requests[] = {
        "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    begin(NULL);
    for (size_t i = 0; i < 2; i++) {
        serve_connect(&other);
        cr_assert_eq(wire_send_raw(&other, requests[i], strlen(requests[i])), 0);
        expect_closed(&other);
        wire_close(&other);
    }
    cr_assert(strstr(daemon_log(&server), "cross-protocol"), "%s", daemon_log(&server));
    expect(&w, "+PONG", "PING");
}

Test(serve_bad, an_endless_line_is_cut_off) {
    begin(NULL);
    serve_connect(&other);
    static char line[70000];
    memset(line, 'x', sizeof(line));
    cr_assert_eq(wire_send_raw(&other, line, sizeof(line)), 0);
    expect_next(&other, "-ERR Protocol error: too big inline request");
    expect_closed(&other);
}

Test(serve_bad, a_request_over_the_limit) {
    begin(POOL "limits: { client_max_input = \"64K\"; };");
    serve_connect(&other);
    static char big[64 * 1024];
    memset(big, 'x', sizeof(big));
    struct resp_arg words[] = {{"ECHO", 4}, {big, 60000}};
    cr_assert_eq(wire_send_words(&other, words, 2), 0);
    cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
    cr_assert_eq(other.doc.v[0].len, 60000);
    char head[] = "*2\r\n$4\r\nECHO\r\n$65537\r\n";
    cr_assert_eq(wire_send_raw(&other, head, strlen(head)), 0);
    expect_next(&other, "-ERR Protocol error: *");
    expect_closed(&other);
    expect(&w, "+PONG", "PING");
}

/* ---- slow, half-closed, gone ---- */

Test(serve_bad, byte_by_byte) {
    static const char bytes[] =
        "*4\r\n$9\r\nTASK.CALL\r\n$4\r\ndemo\r\n$4\r\necho\r\n$5\r\nhello\r\n"
        "PING\r\n*1\r\n$4\r\nPING\r\n";
    begin(NULL);
    for (size_t i = 0; i + 1 < sizeof(bytes); i++) {
        cr_assert_eq(wire_send_raw(&w, bytes + i, 1), 0);
        if (i % 7 == 0) {
            serve_connect(&other); /* lets the daemon see each piece by itself */
            expect(&other, "+PONG", "PING");
            wire_close(&other);
        }
    }
    expect_next(&w, "\"hello\"");
    expect_next(&w, "+PONG");
    expect_next(&w, "+PONG");
}

Test(serve_bad, half_closed_clients_get_their_replies) {
    begin(NULL);
    tell(&w, "PING\r\nTASK.CALL demo sleep '' ARG 100\r\nTASK.CALL demo echo hello\r\nECHO end");
    shutdown(w.fd, SHUT_WR);
    expect_next(&w, "+PONG");
    expect_next(&w, "\"\"");
    expect_next(&w, "\"hello\"");
    expect_next(&w, "\"end\"");
    expect_closed(&w);
    serve_connect(&other);
    tell(&other, "PING\r\n*3\r\n$4\r\nECHO"); /* ends in the middle of a request */
    shutdown(other.fd, SHUT_WR);
    expect_next(&other, "+PONG");
    expect_closed(&other);
}

Test(serve_bad, clients_that_vanish) {
    begin(NULL);
    for (int i = 0; i < 300; i++) {
        serve_connect(&other);
        switch (i % 5) {
        case 0:
            tell(&other, "TASK.CALL demo echo x");
            break;
        case 1:
            tell(&other, "TASK.MSUBMIT demo echo 3 a b c\r\nPING");
            break;
        case 2:
            tell(&other, "SUBSCRIBE task:1-1 tasks:1");
            break;
        case 3:
            tell(&other, "HELLO 3\r\nTASK.NOTIFY ON\r\nTASK.SUBMIT demo echo x");
            break;
        default:
            cr_assert_eq(wire_send_raw(&other, "*4\r\n$11\r\nTASK.SUB", 18), 0);
        }
        wire_close(&other);
    }
    uint64_t until = clock_now() + 20 * NS_PER_SEC;
    while (info_number(&w, "connected_clients") != 1 || info_number(&w, "tasks_live") != 0) {
        cr_assert(clock_now() < until);
    }
    cr_assert_eq(info_number(&w, "tasks_failed") + info_number(&w, "tasks_lost"), 0);
    cr_assert_eq(info_number(&w, "pubsub_clients"), 0);
}

/* Writes as much of `bytes` again and again as the daemon takes: until nothing has moved for half a
 * second. Returns how many bytes went. */
static size_t flood(struct wire *c, const char *bytes, size_t len, size_t max) {
    size_t sent = 0;
    while (sent < max) {
        size_t at = sent % len;
        ssize_t n = send(c->fd, bytes + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        struct pollfd p = {.fd = c->fd, .events = POLLOUT};
        if (errno != EAGAIN || poll(&p, 1, 500) <= 0) {
            break;
        }
    }
    return sent;
}

Test(serve_bad, a_slow_reader_is_stopped_not_stored) {
    enum { ECHO = 50000, MAX = 256 << 20 };
    begin(POOL "limits: { client_max_output = \"1M\"; };");
    static char bytes[ECHO + 100];
    int head = sprintf(bytes, "*2\r\n$4\r\nECHO\r\n$%d\r\n", ECHO);
    memset(bytes + head, 'x', ECHO);
    memcpy(bytes + head + ECHO, "\r\n", 2);
    size_t one = (size_t)head + ECHO + 2;
    long long before = resident();
    serve_connect(&other);
    size_t sent = flood(&other, bytes, one, MAX); /* never reads */
    cr_assert_lt(sent, 16 << 20, "the daemon took %zu bytes", sent);
    long long grown = resident() - before;
    cr_assert_lt(grown, 16 << 20, "the daemon has grown by %lld bytes", grown);
    expect(&w, "\"x\"", "TASK.CALL demo echo x"); /* nobody else notices */
    /* and once it reads, it gets every reply of what was taken whole */
    size_t replies = sent / one;
    cr_assert_gt(replies, 0);
    for (size_t i = 0; i < replies; i++) {
        cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
        cr_assert_eq(other.doc.v[0].len, ECHO);
    }
}

Test(serve_bad, a_subscriber_that_does_not_read_is_closed) {
    begin(POOL "limits: { client_max_output = \"256K\"; };");
    serve_connect(&other);
    expect(&other, "[\"subscribe\" \"c\" :1]", "SUBSCRIBE c");
    static char big[4001];
    memset(big, 'x', 4000);
    int got = 1;
    for (int i = 0; i < 100000 && got == 1; i++) {
        ask(&w, "PUBLISH c %s", big);
        got = (int)w.doc.v[0].integer;
    }
    cr_assert_eq(got, 0);
    cr_assert(strstr(daemon_log(&server), "it does not read"), "%s", daemon_log(&server));
    cr_assert_eq(info_number(&w, "client_output_buffer_limit_disconnections"), 1);
    expect(&w, "[]", "PUBSUB CHANNELS");
}

Test(serve_bad, a_flood_of_one_client_does_not_starve_another) {
    enum { N = 400000 };
    begin(NULL);
    serve_connect(&other);
    static char pings[N * 6];
    for (int i = 0; i < N; i++) {
        memcpy(pings + i * 6, "PING\r\n", 6);
    }
    size_t sent = flood(&other, pings, sizeof(pings), sizeof(pings));
    uint64_t at = clock_now();
    expect(&w, "\"x\"", "TASK.CALL demo echo x");
    cr_assert_lt(clock_now() - at, 2 * NS_PER_SEC);
    for (size_t i = 0; i < sent / 6; i++) {
        cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
    }
}

Test(serve_bad, long_replies_come_in_order_and_let_others_in) {
    enum { N = 1000, LONG = 20000 };
    begin(NULL);
    serve_connect(&other);
    static char asked[N * 64];
    expect(&w, ":20000", "SETRANGE long %d x", LONG - 1);
    size_t len = 0;
    for (int i = 0; i < N; i++) {
        len += (size_t)sprintf(asked + len, "GET long\r\nECHO %d\r\n", i);
    }
    cr_assert_eq(wire_send_raw(&other, asked, len), 0);
    for (int i = 0; i < N; i++) {
        char number[16];
        cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
        cr_assert_eq(other.doc.v[0].len, LONG);
        cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
        sprintf(number, "%d", i);
        cr_assert_eq(other.doc.v[0].len, strlen(number));
        cr_assert_eq(memcmp(other.doc.v[0].data, number, strlen(number)), 0);
        if (i % 100 == 0) {
            expect(&w, "\"x\"", "ECHO x");
        }
    }
}

/* ---- many ---- */

static void raise_files(void) {
    struct rlimit r;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &r), 0);
    r.rlim_cur = r.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &r), 0);
    cr_assert_geq(r.rlim_cur, 6000, "this test needs 6000 descriptors");
}

Test(serve_bad, five_thousand_idle_connections) {
    enum { N = 5000 };
    static struct wire all[N];
    raise_files();
    begin(NULL);
    expect(&w, "+PONG", "PING");
    long long before = resident();
    for (int i = 0; i < N; i++) {
        serve_connect(&all[i]);
    }
    for (int i = 0; i < N; i += 500) {
        expect(&all[i], "+PONG", "PING");
    }
    expect(&all[N - 1], "+PONG", "PING");
    cr_assert_eq(info_number(&w, "connected_clients"), N + 1);
    long long each = (resident() - before) / N;
    cr_assert_lt(each, 4096, "an idle connection costs %lld bytes", each);
    uint64_t at = clock_now();
    expect(&w, "\"x\"", "TASK.CALL demo echo x");
    cr_assert_lt(clock_now() - at, NS_PER_SEC);
    for (int i = 0; i < N; i++) {
        wire_close(&all[i]);
    }
    uint64_t until = clock_now() + 20 * NS_PER_SEC;
    while (info_number(&w, "connected_clients") != 1) {
        cr_assert(clock_now() < until);
    }
}

Test(serve_bad, too_many_clients_are_refused) {
    begin(POOL "limits: { max_clients = 2; };");
    expect(&w, "+PONG", "PING");
    serve_connect(&other);
    expect(&other, "+PONG", "PING");
    struct wire third;
    serve_connect(&third);
    expect_next(&third, "-ERR max number of clients reached");
    expect_closed(&third);
    wire_close(&third);
    wire_close(&other);
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    bool in = false;
    while (!in) {
        cr_assert(clock_now() < until);
        serve_connect(&third);
        in = like("+PONG", wire_call(&third, "PING", NULL));
        wire_close(&third);
    }
    cr_assert_gt(info_number(&w, "rejected_connections"), 0);
}

Test(serve_bad, out_of_descriptors_means_waiting) {
    enum { N = 60 };
    static struct wire all[N];
    begin(NULL);
    expect(&w, "+PONG", "PING");
    /* room for some 20 more descriptors */
    struct rlimit limit = {64, 64};
    cr_assert_eq(prlimit(server.pid, RLIMIT_NOFILE, &limit, NULL), 0);
    for (int i = 0; i < N; i++) {
        serve_connect(&all[i]); /* the backlog takes them */
        tell(&all[i], "PING");
    }
    /* those that were accepted are served, and so is everything else but new workers */
    expect(&w, "\"x\"", "TASK.CALL demo echo x");
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    while (info_number(&w, "accepting_paused") != 1) {
        cr_assert(clock_now() < until);
    }
    long long in = info_number(&w, "connected_clients");
    cr_assert(in > 1 && in < N, "%lld", in);
    cr_assert(strstr(daemon_log(&server), "out of file descriptors"), "%s", daemon_log(&server));
    /* as they leave, the next come in, in order */
    for (int i = 0; i < N; i++) {
        expect_next(&all[i], "+PONG");
        wire_close(&all[i]);
    }
    expect(&w, "\"x\"", "TASK.CALL demo echo x");
}

static unsigned long long address_space(void) {
    char path[64];
    unsigned long long pages = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)server.pid);
    FILE *f = fopen(path, "re");
    cr_assert(f);
    cr_assert_eq(fscanf(f, "%llu", &pages), 1);
    fclose(f);
    return pages * (unsigned long long)sysconf(_SC_PAGESIZE);
}

/* malloc() fails: those lose their connections who want so much, and nobody else. */
Test(serve_bad, out_of_memory_means_closing_those_who_ask_for_it) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    cr_skip_test("a sanitizer's allocator takes and keeps memory as it likes");
#endif
    enum { N = 12, ECHO = 8 << 20, ROOM = 48 << 20 };
    static struct wire all[N];
    static char half[ECHO];
    int closed = 0, head = sprintf(half, "*2\r\n$4\r\nECHO\r\n$%d\r\n", ECHO);
    memset(half + head, 'x', ECHO - (size_t)head);
    begin(POOL);
    expect(&w, "+PONG", "PING");
    struct rlimit limit;
    cr_assert_eq(prlimit(server.pid, RLIMIT_AS, NULL, &limit), 0);
    limit.rlim_cur = address_space() + ROOM;
    cr_assert_eq(prlimit(server.pid, RLIMIT_AS, &limit, NULL), 0);
    for (int i = 0; i < N; i++) {
        serve_connect(&all[i]);
        closed += wire_send_raw(&all[i], half, ECHO) < 0;
        expect(&w, "\"x\"", "TASK.CALL demo echo x");
    }
    cr_assert(closed > 0 && closed < N, "%d of %d", closed, N);
    cr_assert(strstr(daemon_log(&server), "no memory for its request"), "%s", daemon_log(&server));
    for (int i = 0; i < N; i++) {
        wire_close(&all[i]);
    }
    serve_connect(&other); /* there is room again */
    cr_assert_eq(wire_send_raw(&other, half, ECHO), 0);
    cr_assert_eq(wire_send_raw(&other, half + ECHO - head, (size_t)head), 0);
    cr_assert_eq(wire_send_raw(&other, "\r\n", 2), 0);
    cr_assert_eq(wire_read(&other, WIRE_LIMIT_MS), 0);
    cr_assert_eq(other.doc.v[0].len, ECHO);
}

/* ---- a full segment ---- */

Test(serve_bad, a_full_segment_refuses_and_loses_nothing) {
    enum { PAYLOAD = 200000, MAX = 200 };
    static char ids[MAX][SERVE_ID];
    static char data[PAYLOAD];
    begin(POOL "segment_size = \"16M\";\n");
    memset(data, 'p', sizeof(data));
    struct resp_arg words[] = {{"TASK.SUBMIT", 11}, {"demo", 4}, {"echo", 4}, {data, PAYLOAD}};
    char busy[SERVE_ID];
    submit_line(&w, busy, "demo sleep '' ARG 60000");
    int n = 0;
    for (;; n++) { /* they queue behind it, until there is no room */
        cr_assert_lt(n, MAX);
        cr_assert_eq(wire_send_words(&w, words, 4), 0);
        hear(&w);
        if (w.doc.v[0].type == RESP_ERROR) {
            break;
        }
        take_id(&w, ids[n]);
    }
    cr_assert(like("-OOM the segment is full*", wire_show(&w)), "%s", wire_show(&w));
    cr_assert_gt(n, 10);
    /* all or none */
    struct resp_arg many[] = {{"TASK.MSUBMIT", 12}, {"demo", 4},     {"echo", 4},    {"3", 1},
                              {data, 10},           {data, PAYLOAD}, {data, PAYLOAD}};
    cr_assert_eq(wire_send_words(&w, many, 7), 0);
    expect_next(&w, "-OOM *");
    cr_assert_eq(info_number(&w, "tasks_live"), n + 1);
    /* small ones still fit; and when the large ones go, there is room for their results */
    expect(&w, ":1", "TASK.CANCEL %s", ids[n - 1]);
    expect(&w, ":1", "TASK.CANCEL %s", ids[n - 2]);
    expect(&w, "[*", "TASK.WAIT %s", ids[n - 1]);
    expect(&w, "[*", "TASK.WAIT %s", ids[n - 2]);
    expect(&w, ":1", "TASK.CANCEL %s", busy);
    for (int i = 0; i < n - 2; i++) {
        expect(&w, "[\"*\" \"*\" *", "TASK.WAIT %s", ids[i]);
        /* done, or the worker found no room for the result and said so */
        bool done = like("*\"done\"*", wire_show(&w));
        cr_assert(done || like("*\"failed\" nil \"error *", wire_show(&w)), "%.300s",
                  wire_show(&w));
    }
    cr_assert_eq(info_number(&w, "tasks_live"), 0);
    /* goes on as before: what was fetched gives way */
    struct resp_arg call[] = {{"TASK.CALL", 9}, {"demo", 4}, {"echo", 4}, {data, PAYLOAD}};
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(wire_send_words(&w, call, 4), 0);
        cr_assert_eq(wire_read(&w, WIRE_LIMIT_MS), 0);
        cr_assert(w.doc.v[0].type == RESP_BULK && w.doc.v[0].len == PAYLOAD, "%d: %.200s", i,
                  wire_show(&w));
    }
}

Test(serve_bad, a_table_of_tasks_that_is_full) {
    begin(POOL "tasks_max = 64;\n");
    char busy[SERVE_ID];
    submit_line(&w, busy, "demo sleep '' ARG 60000");
    int n = 1;
    while (!like("-OOM *", ask(&w, "TASK.SUBMIT demo echo x"))) {
        cr_assert_lt(++n, 100);
    }
    cr_assert_eq(n, 64);
    expect(&w, ":1", "TASK.CANCEL %s", busy);
    while (info_number(&w, "tasks_live") > 0) {
    }
    expect(&w, "-OOM *", "TASK.SUBMIT demo echo x"); /* kept for who comes for them */
    expect(&w, "[*", "TASK.WAIT %s", busy);
    expect(&w, "\"x\"", "TASK.CALL demo echo x"); /* what was fetched gives way */
}
