/* SPDX-License-Identifier: MIT */
/* Queues and pipes over the socket: what each command says, who is served first, closing, leases, and what becomes of items and
 * messages when those who take them end at the wrong moment. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire a, b, c;

static void begin(void) {
    serve_begin("segment_size = \"512M\";\n"
                "pools = ( { name = \"demo\"; workers = 1; module = \"demo.so\"; } );\n");
    serve_connect(&a);
    serve_connect(&b);
    serve_connect(&c);
}

static void end(void) {
    wire_close(&a);
    wire_close(&b);
    wire_close(&c);
    serve_end();
}

TestSuite(queues, .timeout = 120, .init = begin, .fini = end);

Test(queues, put_and_get) {
    expect(&a, ":0", "QUEUE.SIZE q");
    expect(&a, "-ERR no such key", "QUEUE.INFO q");
    expect(&a, "nil", "QUEUE.GET q NOWAIT");
    expect(&a, ":1", "QUEUE.PUT q one");
    expect(&a, ":3", "QUEUE.PUT q ITEM two NOWAIT ''");
    expect(&a, "+queue", "TYPE q");
    expect(&a, ":4", "QUEUE.SIZE q");
    expect(&b, "[\"one\" :0]", "QUEUE.GET q");
    expect(&b, "[[\"two\" :0] [\"NOWAIT\" :0]]", "QUEUE.GET q COUNT 2");
    expect(&b, "[[\"\" :0]]", "QUEUE.GET q COUNT 2 NOWAIT");
    expect(&b, "nil", "QUEUE.GET q TIMEOUT 10");
    expect(&b, "nil", "QUEUE.GET q COUNT 5 TIMEOUT 10");
    expect(&a, "-ERR syntax error", "QUEUE.PUT q TIMEOUT 5");
    expect(&a, "-ERR syntax error", "QUEUE.PUT q TIMEOUT 5 ITEM");
    expect(&a, "-ERR syntax error", "QUEUE.PUT q a b");
    expect(&a, "-ERR *", "QUEUE.GET q COUNT 0");
    expect(&a, "+OK", "SET s 1");
    expect(&a, "-WRONGTYPE *", "QUEUE.PUT s x");
    expect(&a, "-WRONGTYPE *", "QUEUE.GET s");
    expect(&a, "-WRONGTYPE *", "QUEUE.SIZE s");
}

Test(queues, waiting_in_order) {
    struct wire w[8] = {0};
    for (int i = 0; i < 8; i++) {
        serve_connect(&w[i]);
        tell(&w[i], "QUEUE.GET q");
        tell(&w[i], "PING");
        until_waiting(i + 1);
    }
    expect(&a, "[\"max_items\" :0 *\"getters\" :8 \"putters\" :0 \"closed\" :0]", "QUEUE.INFO q");
    wire_close(&w[2]); /* gone: its turn goes to the next */
    until_waiting(7);
    expect(&a, ":3", "QUEUE.PUT q ITEM 0 1 3");
    expect_next(&w[0], "[\"0\" :0]");
    expect_next(&w[1], "[\"1\" :0]");
    expect_next(&w[3], "[\"3\" :0]");
    expect_next(&w[0], "+PONG");
    expect(&a, "nil", "QUEUE.GET q NOWAIT");
    expect(&a, "+OK", "MULTI");
    expect(&a, "+QUEUED", "QUEUE.PUT q 4");
    expect(&a, "+QUEUED", "QUEUE.GET q");
    expect(&a, "+QUEUED", "QUEUE.PUT q 5");
    expect(&a, "[:1 nil :1]", "EXEC"); /* the items are for those who wait */
    expect_next(&w[4], "[\"*\" :0]");
    expect_next(&w[5], "[\"*\" :0]");
    expect(&a, ":*", "QUEUE.PUT q x");
    for (int i = 0; i < 8; i++) {
        wire_close(&w[i]);
    }
}

Test(queues, bounded) {
    expect(&a, ":1", "QUEUE.CREATE q MAX 2");
    expect(&a, ":0", "QUEUE.CREATE q MAX 2");
    expect(&a, "-EXISTS *", "QUEUE.CREATE q MAX 3");
    expect(&a, "-EXISTS *", "QUEUE.CREATE q");
    expect(&a, "-ERR *", "QUEUE.CREATE q MAX -1");
    expect(&a, "-ERR *", "QUEUE.CREATE q LEASE -2");
    expect(&a, "-ERR syntax error", "QUEUE.CREATE q MAX");
    expect(&a, ":2", "QUEUE.PUT q ITEM 1 2 3");
    expect(&a, "nil", "QUEUE.PUT q NOWAIT ITEM 3");
    expect(&a, "nil", "QUEUE.PUT q TIMEOUT 10 ITEM 3");
    tell(&a, "QUEUE.PUT q 3");
    until_waiting(1);
    tell(&b, "QUEUE.PUT q TIMEOUT 60000 ITEM 4 5");
    until_waiting(2);
    expect(&c, "*\"putters\" :2*", "QUEUE.INFO q");
    expect(&c, "[\"1\" :0]", "QUEUE.GET q");
    expect_next(&a, ":1");
    expect(&c, "[[\"2\" :0] [\"3\" :0]]", "QUEUE.GET q COUNT 2");
    expect_next(&b, ":2");
    expect(&c, "[[\"4\" :0] [\"5\" :0]]", "QUEUE.GET q COUNT 9");
    /* CLIENT UNBLOCK */
    expect(&a, ":2", "QUEUE.PUT q ITEM 1 2");
    ask(&b, "CLIENT ID");
    long long id = b.doc.v[0].integer;
    tell(&b, "QUEUE.PUT q 3");
    until_waiting(1);
    expect(&a, ":1", "CLIENT UNBLOCK %lld", id);
    expect_next(&b, "nil");
    tell(&b, "QUEUE.PUT q 3");
    until_waiting(1);
    expect(&a, ":1", "CLIENT UNBLOCK %lld ERROR", id);
    expect_next(&b, "-UNBLOCKED *");
    expect(&a, ":2", "QUEUE.SIZE q");
    tell(&b, "QUEUE.PUT q 3");
    until_waiting(1);
    expect(&a, ":1", "DEL q");
    expect_next(&b, "-GONE *");
    expect(&b, ":1", "QUEUE.PUT q 3");
}

Test(queues, closed) {
    expect(&a, ":1", "QUEUE.PUT q last");
    tell(&b, "QUEUE.GET r");
    until_waiting(1);
    expect(&a, "+OK", "QUEUE.CLOSE q");
    expect(&a, "+OK", "QUEUE.CLOSE q");
    expect(&a, "+OK", "QUEUE.CLOSE r");
    expect_next(&b, "-CLOSED *");
    expect(&a, "-CLOSED *", "QUEUE.PUT q more");
    expect(&a, "[\"last\" :0]", "QUEUE.GET q");
    expect(&a, "-CLOSED *", "QUEUE.GET q");
    expect(&a, "-ERR no such key", "QUEUE.CLOSE nothing");
}

Test(queues, join) {
    expect(&a, "+OK", "QUEUE.JOIN nothing");
    expect(&a, ":2", "QUEUE.PUT q ITEM 1 2");
    expect(&a, "nil", "QUEUE.JOIN q TIMEOUT 10");
    tell(&b, "QUEUE.JOIN q");
    until_waiting(1);
    expect(&a, "[[\"1\" :0] [\"2\" :0]]", "QUEUE.GET q COUNT 5");
    expect(&a, "+OK", "QUEUE.TASKDONE q");
    expect(&a, "*\"unfinished\" :1*", "QUEUE.INFO q");
    expect(&a, "+OK", "QUEUE.TASKDONE q");
    expect_next(&b, "+OK");
    expect(&a, "-OVERFLOW *", "QUEUE.TASKDONE q");
}

static long long lease_of(struct wire *w) {
    cr_assert(w->doc.v[0].type == RESP_ARRAY && w->doc.v[2].type == RESP_INT, "%s", wire_show(w));
    return w->doc.v[2].integer;
}

Test(queues, leases) {
    expect(&a, ":1", "QUEUE.CREATE q LEASE -1");
    expect(&a, ":2", "QUEUE.PUT q ITEM 1 2");
    expect(&b, "[\"1\" :*]", "QUEUE.GET q");
    long long lease = lease_of(&b);
    expect(&b, "-NOLEASE *", "QUEUE.DONE q %lld", lease + 1000);
    expect(&b, "-ERR *", "QUEUE.DONE q 0");
    expect(&c, "-NOTOWNER *", "QUEUE.DONE q %lld", lease);
    expect(&b, "*\"leased\" :1 *", "QUEUE.INFO q");
    wire_close(&b);
    while (!like("*\"leased\" :0 *", ask(&c, "QUEUE.INFO q"))) { /* it may take a moment */
    }
    expect(&c, "[\"1\" :*]", "QUEUE.GET q"); /* before 2 */
    expect(&c, "+OK", "QUEUE.DONE q %lld", lease_of(&c));
    expect(&c, "[\"2\" :*]", "QUEUE.GET q");
    lease = lease_of(&c);
    expect(&c, "+OK", "QUEUE.RETURN q %lld", lease);
    expect(&c, "-NOLEASE *", "QUEUE.DONE q %lld", lease);
    expect(&c, "[\"2\" :*]", "QUEUE.GET q");
    expect(&a, "+OK", "QUEUE.DONE q %lld FORCE", lease_of(&c));
    expect(&a, "+OK", "QUEUE.JOIN q");
    /* by time, which the daemon keeps */
    expect(&a, ":1", "QUEUE.CREATE t LEASE 50");
    expect(&a, ":1", "QUEUE.PUT t x");
    expect(&c, "[\"x\" :*]", "QUEUE.GET t");
    lease = lease_of(&c);
    uint64_t began = clock_now();
    expect(&a, "[\"x\" :*]", "QUEUE.GET t TIMEOUT 9000");
    cr_expect_lt(clock_now() - began, 5 * NS_PER_SEC);
    expect(&c, "-NOLEASE *", "QUEUE.DONE t %lld", lease);
    while (!like("+OK", ask(&a, "QUEUE.EXTEND t %lld 100000", lease_of(&a)))) { /* too late */
        expect(&a, "[\"x\" :*]", "QUEUE.GET t TIMEOUT 9000");
    }
    expect(&c, "nil", "QUEUE.GET t TIMEOUT 150");
}

/* Who is granted an item and gone before he has it, or just after: it is the next one's. */
Test(queues, no_item_is_lost) {
    enum { ROUNDS = 200 };
    expect(&a, ":1", "QUEUE.CREATE q LEASE -1");
    for (int i = 0; i < ROUNDS; i++) {
        struct wire w = {.fd = -1};
        char want[32];
        serve_connect(&w);
        tell(&w, "QUEUE.GET q");
        until_waiting(1);
        tell(&a, "QUEUE.PUT q %d", i);
        if (i % 3 == 0) {
            expect_next(&a, ":1");
        }
        wire_close(&w);
        if (i % 3 != 0) {
            expect_next(&a, ":1");
        }
        snprintf(want, sizeof(want), "[\"%d\" :*]", i);
        expect(&b, want, "QUEUE.GET q");
        expect(&b, "+OK", "QUEUE.DONE q %lld", lease_of(&b));
    }
    expect(&a, "*\"items\" :0 \"leased\" :0 \"unfinished\" :0 *", "QUEUE.INFO q");
    expect(&a, "*\"errors\" :0*", "SEGMENT.CHECK");
}

Test(queues, large_items) {
    enum { LARGE = 64 << 20 };
    char *item = malloc(LARGE);
    cr_assert(item);
    memset(item, 'x', LARGE);
    struct resp_arg words[] = {{"QUEUE.PUT", 9}, {"q", 1}, {item, LARGE}};
    tell(&b, "QUEUE.GET q");
    until_waiting(1);
    cr_assert_eq(wire_send_words(&a, words, 3), 0);
    expect_next(&a, ":1");
    cr_assert_eq(wire_read(&b, WIRE_LIMIT_MS), 0);
    cr_assert_eq(b.doc.v[1].len, LARGE);
    cr_assert_eq(memcmp(b.doc.v[1].data, item, LARGE), 0);
    free(item);
}

/* ---- pipes ---- */

Test(queues, pipe) {
    expect(&a, "-ERR no such key", "PIPE.SEND p 1 x");
    expect(&a, ":1", "PIPE.CREATE p");
    expect(&a, ":0", "PIPE.CREATE p");
    expect(&a, "-EXISTS *", "PIPE.CREATE p DUPLEX");
    expect(&a, "-ERR *", "PIPE.CREATE p BUFFER 0");
    expect(&a, "-ERR the end *", "PIPE.OPEN p 2");
    expect(&a, "+pipe", "TYPE p");
    expect(&a, "-ERR this end *", "PIPE.SEND p 0 x");
    expect(&a, "-ERR this end *", "PIPE.RECV p 1");
    expect(&a, ":0", "PIPE.POLL p 0 NOWAIT");
    expect(&a, "nil", "PIPE.RECV p 0 TIMEOUT 10");
    tell(&a, "PIPE.RECV p 0");
    until_waiting(1);
    expect(&b, "+OK", "PIPE.SEND p 1 hello");
    expect_next(&a, "\"hello\"");
    expect(&b, "+OK", "PIPE.SEND p 1 ''");
    expect(&a, ":1", "PIPE.POLL p 0");
    expect(&a, "\"\"", "PIPE.RECV p 0");
    expect(&a, "*\"duplex\" :0 \"buffer\" :65536 \"ends\" [[\"holders\" :1 *", "PIPE.INFO p");
    tell(&a, "PIPE.POLL p 0");
    until_waiting(1);
    expect(&b, "+OK", "PIPE.SEND p 1 last");
    expect_next(&a, ":1");
    expect(&b, "-NOTOWNER *", "PIPE.CLOSE p 0");
    wire_close(&b);
    expect(&a, "\"last\"", "PIPE.RECV p 0");
    expect(&a, "-CLOSED *", "PIPE.RECV p 0");
    expect(&a, "+OK", "PIPE.CLOSE p 0");
    expect(&c, "-CLOSED *", "PIPE.SEND p 1 x");
}

Test(queues, duplex_pipe_and_its_buffer) {
    expect(&a, ":1", "PIPE.CREATE p DUPLEX BUFFER 10");
    expect(&a, "+OK", "PIPE.OPEN p 0");
    expect(&b, "+OK", "PIPE.OPEN p 1");
    expect(&a, "+OK", "PIPE.SEND p 0 there");
    expect(&b, "+OK", "PIPE.SEND p 1 back");
    expect(&a, "\"back\"", "PIPE.RECV p 0");
    expect(&b, "\"there\"", "PIPE.RECV p 1");
    expect(&a, "+OK", "PIPE.SEND p 0 'much more than ten bytes'");
    expect(&a, "nil", "PIPE.SEND p 0 x TIMEOUT 10");
    tell(&a, "PIPE.SEND p 0 x");
    until_waiting(1);
    expect(&b, "\"much more than ten bytes\"", "PIPE.RECV p 1");
    expect_next(&a, "+OK");
    tell(&a, "PIPE.RECV p 0");
    until_waiting(1);
    wire_close(&b); /* the end of the messages while it waits for one */
    expect_next(&a, "-CLOSED *");
}

/* The next reply, and the descriptor beside it; -1: none. */
static int take_fd(struct wire *w, const char *want) {
    char text[256];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {text, sizeof(text) - 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(w->fd, &m, MSG_CMSG_CLOEXEC);
    cr_assert_gt(n, 0);
    text[n] = '\0';
    cr_assert(strncmp(text, want, strlen(want)) == 0, "%s", text);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    int fd = -1;
    if (h && h->cmsg_type == SCM_RIGHTS) {
        memcpy(&fd, CMSG_DATA(h), sizeof(fd));
    }
    return fd;
}

Test(queues, descriptors) {
    char text[16];
    tell(&a, "PIPE.FD pair 0");
    int one = take_fd(&a, "+OK");
    expect(&b, "-EXISTS *", "PIPE.FD pair 0");
    tell(&b, "PIPE.FD pair 1");
    int two = take_fd(&b, "+OK");
    cr_assert(one >= 0 && two >= 0);
    cr_assert_eq(write(one, "hello", 5), 5);
    cr_assert_eq(write(one, "you", 3), 3);
    cr_assert_eq(read(two, text, sizeof(text)), 5);
    cr_assert_eq(read(two, text, sizeof(text)), 3);
    close(one);
    cr_assert_eq(read(two, text, sizeof(text)), 0);
    close(two);
    /* the other half goes with who asked first */
    for (int i = 0; i < 16; i++) {
        tell(&a, "PIPE.FD p%d 1", i);
        one = take_fd(&a, "+OK");
        cr_assert_geq(one, 0);
        if (i < 15) {
            close(one);
        }
    }
    expect(&a, "-BUSY *", "PIPE.FD more 1");
    wire_close(&a);
    cr_assert_eq(read(one, text, sizeof(text)), 0);
    close(one);
    expect(&b, "-ERR *", "PIPE.FD x 7");
    expect(&b, "+OK", "MULTI");
    expect(&b, "-ERR *", "PIPE.FD x 1");
    expect(&b, "+OK", "DISCARD");
}
