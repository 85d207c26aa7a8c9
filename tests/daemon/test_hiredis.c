/* SPDX-License-Identifier: MIT */
/* hiredis, the C client of Redis, against the daemon, as its users have it: the blocking interface
 * and the asynchronous one, driven by a loop over poll(2) of a few lines, for hiredis tells its
 * host what to watch. What comes back is bytes, errors are REDIS_REPLY_ERROR, and a blocked
 * TASK.WAIT ends by hiredis's own time-out.
 *
 * Fails: the tests. */
#include <criterion/criterion.h>
#include <errno.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/daemon.h"

enum { DEEP = 10000, LIMIT_MS = 30000 };

static const char bytes[] = "a\0b\r\n$5\r\n\xff\xfe";

static struct daemon d;
static redisContext *c;

static void begin(void) {
    cr_assert_eq(daemon_start(&d, NULL), 0);
    c = redisConnectUnix(d.socket);
    cr_assert(c && !c->err, "%s", daemon_log(&d));
}

static void end(void) {
    if (c) {
        redisFree(c);
        c = NULL;
    }
    cr_expect_eq(daemon_stop(&d), 0);
}

TestSuite(hiredis, .init = begin, .fini = end, .timeout = 60);

/* The reply to a command; never NULL, of the given type. */
static redisReply *ask(int type, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    redisReply *r = redisvCommand(c, format, ap);
    va_end(ap);
    cr_assert(r, "%s: %s", format, c->errstr);
    cr_assert_eq(r->type, type, "%s: type %d, %s", format, r->type, r->str ? r->str : "");
    return r;
}

Test(hiredis, calls_and_errors) {
    freeReplyObject(ask(REDIS_REPLY_STATUS, "PING"));
    redisReply *r =
        ask(REDIS_REPLY_STRING, "TASK.CALL demo echo %b", (const void *)bytes, sizeof(bytes));
    cr_assert(r->len == (int)sizeof(bytes) && memcmp(r->str, bytes, sizeof(bytes)) == 0);
    freeReplyObject(r);
    r = ask(REDIS_REPLY_ERROR, "TASK.CALL demo fail %s ARG %s", "", "no such file");
    cr_assert_str_eq(r->str, "FAILED 1 no such file");
    freeReplyObject(r);
    r = ask(REDIS_REPLY_ERROR, "NOSUCH");
    cr_assert(strncmp(r->str, "ERR unknown command", 19) == 0);
    freeReplyObject(r);
    r = ask(REDIS_REPLY_ARRAY, "POOL.INFO demo");
    cr_assert(r->elements > 20 && strcmp(r->element[1]->str, "demo") == 0);
    freeReplyObject(r);
}

Test(hiredis, pipeline_of_10000) {
    for (int i = 0; i < DEEP; i++) {
        cr_assert_eq(redisAppendCommand(c, "TASK.CALL demo echo %d", i), REDIS_OK);
    }
    for (int i = 0; i < DEEP; i++) {
        redisReply *r = NULL;
        char wanted[16];
        snprintf(wanted, sizeof(wanted), "%d", i);
        cr_assert_eq(redisGetReply(c, (void **)&r), REDIS_OK, "%s", c->errstr);
        cr_assert(r->type == REDIS_REPLY_STRING && strcmp(r->str, wanted) == 0);
        freeReplyObject(r);
    }
}

Test(hiredis, wait_times_out_and_reconnects) {
    redisReply *r = ask(REDIS_REPLY_STRING, "TASK.SUBMIT demo sleep %s ARG 60000", "");
    char id[64];
    snprintf(id, sizeof(id), "%s", r->str);
    freeReplyObject(r);
    cr_assert_eq(redisSetTimeout(c, (struct timeval){.tv_usec = 50000}), REDIS_OK);
    cr_assert_null(redisCommand(c, "TASK.WAIT %s", id));
    cr_assert(c->err == REDIS_ERR_IO && errno == EAGAIN);
    cr_assert_eq(redisReconnect(c), REDIS_OK);
    freeReplyObject(ask(REDIS_REPLY_NIL, "TASK.WAIT %s TIMEOUT 1", id));
    r = ask(REDIS_REPLY_INTEGER, "TASK.CANCEL %s", id);
    cr_assert_eq(r->integer, 1);
    freeReplyObject(r);
    r = ask(REDIS_REPLY_ARRAY, "TASK.WAIT %s", id);
    cr_assert(strcmp(r->element[1]->str, "cancelled") == 0 &&
              r->element[2]->type == REDIS_REPLY_NIL);
    freeReplyObject(r);
}

/* ---- asynchronous ---- */

static void add_read(void *p) {
    *(short *)p |= POLLIN;
}
static void del_read(void *p) {
    *(short *)p &= (short)~POLLIN;
}
static void add_write(void *p) {
    *(short *)p |= POLLOUT;
}
static void del_write(void *p) {
    *(short *)p &= (short)~POLLOUT;
}

static redisAsyncContext *open_async(short *events) {
    redisAsyncContext *ac = redisAsyncConnectUnix(d.socket);
    cr_assert(ac && !ac->err);
    ac->ev.data = events;
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    return ac;
}

/* Turns both until *n is wanted. */
static void turn(redisAsyncContext *ac[2], const short events[2], const int *n, int wanted) {
    while (*n < wanted) {
        struct pollfd p[2] = {{ac[0]->c.fd, events[0], 0}, {ac[1]->c.fd, events[1], 0}};
        cr_assert(poll(p, 2, LIMIT_MS) > 0, "%d of %d after %d ms", *n, wanted, LIMIT_MS);
        for (int i = 0; i < 2; i++) {
            if (p[i].revents & POLLOUT) {
                redisAsyncHandleWrite(ac[i]);
            }
            if (p[i].revents & POLLIN) {
                redisAsyncHandleRead(ac[i]);
            }
        }
    }
}

struct heard {
    int ready;    /* subscribed */
    int messages; /* that are right */
    int ids, nr;
    long long client;
};

static void on_client(redisAsyncContext *ac, void *reply, void *arg) {
    (void)ac;
    struct heard *h = arg;
    h->client = ((redisReply *)reply)->integer;
    h->nr++;
}

static void on_id(redisAsyncContext *ac, void *reply, void *arg) {
    (void)ac;
    struct heard *h = arg;
    h->ids += ((redisReply *)reply)->type == REDIS_REPLY_STRING;
}

static void on_message(redisAsyncContext *ac, void *reply, void *arg) {
    (void)ac;
    struct heard *h = arg;
    redisReply *r = reply;
    if (!r) {
        return; /* at the end, when the context is freed */
    }
    if (strcmp(r->element[0]->str, "subscribe") == 0) {
        h->ready++;
        return;
    }
    const redisReply *m = r->element[2];
    size_t size = sizeof(bytes);
    h->messages += (size_t)m->len > size && strstr(m->str, " done \n") &&
                   memcmp(m->str + (size_t)m->len - size, bytes, size) == 0;
}

Test(hiredis, asynchronous_results_by_pub_sub) {
    short events[2] = {0, 0};
    redisAsyncContext *ac[2] = {open_async(&events[0]), open_async(&events[1])};
    struct heard h = {0};
    cr_assert_eq(redisAsyncCommand(ac[0], on_client, &h, "CLIENT ID"), REDIS_OK);
    turn(ac, events, &h.nr, 1);
    cr_assert_eq(redisAsyncCommand(ac[1], on_message, &h, "SUBSCRIBE tasks:%lld", h.client),
                 REDIS_OK);
    turn(ac, events, &h.ready, 1);
    for (int i = 0; i < DEEP; i++) {
        cr_assert_eq(redisAsyncCommand(ac[0], on_id, &h, "TASK.SUBMIT demo echo %b",
                                       (const void *)bytes, sizeof(bytes)),
                     REDIS_OK);
    }
    turn(ac, events, &h.messages, DEEP);
    turn(ac, events, &h.ids, DEEP);
    redisAsyncFree(ac[0]);
    redisAsyncFree(ac[1]);
}
