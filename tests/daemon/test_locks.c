/* SPDX-License-Identifier: MIT */
/* Locks, semaphores, events, conditions and barriers over the socket: what each command says, who goes first, and what
 * becomes of what a connection holds or waits for when its time is over, it is unblocked, it ends, or its key goes. Queues and pipes
 * are in test_queues.c. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"
#include "tests/support/child.h"

static struct wire a, b, c;

static void begin(void) {
    serve_begin("pools = ( { name = \"demo\"; workers = 1; module = \"demo.so\"; } );\n");
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

TestSuite(locks, .timeout = 240, .init = begin, .fini = end);

static long long id_of(struct wire *w) {
    ask(w, "CLIENT ID");
    return w->doc.v[0].integer;
}

Test(locks, lock) {
    expect(&a, ":0", "LOCK.ISHELD l");
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    expect(&b, ":1", "LOCK.ISHELD l");
    expect(&b, "+lock", "TYPE l");
    expect(&b, "nil", "LOCK.ACQUIRE l NOWAIT");
    expect(&b, "nil", "LOCK.ACQUIRE l TIMEOUT 20");
    expect(&b, "-NOTOWNER *", "LOCK.RELEASE l");
    tell(&b, "LOCK.ACQUIRE l");
    tell(&b, "PING");
    until_waiting(1);
    expect(&a, "+OK", "LOCK.RELEASE l");
    expect_next(&b, "+OK");
    expect_next(&b, "+PONG"); /* in order */
    expect(&a, "-NOTOWNER *", "LOCK.RELEASE l");
    expect(&a, "+OK", "LOCK.RELEASE l FORCE");
    expect(&b, "-NOTOWNER *", "LOCK.RELEASE l");
    expect(&b, "-NOTOWNER *", "LOCK.RELEASE l FORCE");
}

Test(locks, force_of_other_locks) {
    expect(&a, "+OK", "RLOCK.ACQUIRE r");
    expect(&a, "+OK", "RLOCK.ACQUIRE r");
    expect(&b, "-ERR syntax error", "RLOCK.RELEASE r PLEASE");
    expect(&b, "+OK", "RLOCK.RELEASE r FORCE");
    expect(&a, "-NOTOWNER *", "RLOCK.RELEASE r");
    expect(&a, "+OK", "RWLOCK.WRITE rw");
    expect(&b, "+OK", "RWLOCK.RELEASE rw FORCE");
    expect(&a, "+OK", "RWLOCK.READ rw");
    expect(&b, "-NOTOWNER *", "RWLOCK.RELEASE rw FORCE"); /* of writers only */
}

Test(locks, words) {
    expect(&a, "-ERR syntax error", "LOCK.ACQUIRE l TIMEOUT");
    expect(&a, "-ERR syntax error", "LOCK.ACQUIRE l SOON");
    expect(&a, "-ERR timeout is not *", "LOCK.ACQUIRE l TIMEOUT -1");
    expect(&a, "-ERR timeout is not *", "LOCK.ACQUIRE l TIMEOUT 99999999999999999999");
    expect(&a, "-ERR syntax error", "LOCK.RELEASE l NOW");
    expect(&a, "-ERR syntax error", "EVENT.WAIT e NOCHECK");
    expect(&a, "-ERR wrong number *", "LOCK.LIST a b");
    expect(&a, "-ERR *", "SEM.CREATE s -1");
    expect(&a, "-ERR *", "SEM.CREATE s x");
    expect(&a, "-ERR syntax error", "SEM.CREATE s 1 BOUND");
    expect(&a, "-ERR *positive", "SEM.ACQUIRE s 0");
    expect(&a, "-ERR no such key", "SEM.ACQUIRE s 1 NOWAIT");
    expect(&a, "-ERR no such key", "SEM.VALUE s");
    expect(&a, "-ERR *", "BARRIER.CREATE x 0");
    expect(&a, "-ERR no such key", "BARRIER.WAIT x");
    expect(&a, "+OK", "SET string 1");
    expect(&a, "-WRONGTYPE *", "LOCK.ACQUIRE string");
    expect(&a, "-WRONGTYPE *", "EVENT.WAIT string");
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    expect(&a, "-WRONGTYPE *", "RLOCK.ACQUIRE l");
    expect(&a, "-WRONGTYPE *", "GET l");
    expect(&a, "[\"cond\" \"lock\"]", "COMMAND GETKEYS COND.WAIT cond lock TIMEOUT 5");
    expect(&a, "[\"q\"]", "COMMAND GETKEYS QUEUE.GET q COUNT 5");
}

Test(locks, keys) {
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    expect(&a, "-ERR *copied", "COPY l m");
    expect(&a, "-ERR *copied", "DUMP l");
    expect(&a, "\"lock\"", "OBJECT ENCODING l");
    ask(&a, "MEMORY USAGE l");
    cr_expect(a.doc.v[0].integer >= 64, "%s", wire_show(&a));
    expect(&a, "[\"0\" [\"l\"]]", "SCAN 0 COUNT 1000 TYPE lock");
    tell(&b, "LOCK.ACQUIRE l");
    until_waiting(1);
    /* under another name it is the same lock */
    expect(&a, "+OK", "RENAME l other");
    expect(&a, "+OK", "LOCK.RELEASE other");
    expect_next(&b, "+OK");
    /* and when it expires it is gone */
    tell(&a, "LOCK.ACQUIRE other");
    until_waiting(1);
    expect(&c, ":1", "PEXPIRE other 30");
    expect_next(&a, "-GONE *");
    expect(&c, ":0", "EXISTS other");
    expect(&b, "-NOTOWNER *", "LOCK.RELEASE other");
}

Test(locks, deleted_while_waited_for) {
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    tell(&b, "LOCK.ACQUIRE l TIMEOUT 60000");
    tell(&c, "EVENT.WAIT e");
    until_waiting(2);
    expect(&a, ":2", "DEL l e");
    expect_next(&b, "-GONE *");
    expect_next(&c, "-GONE *");
    expect(&b, "+OK", "LOCK.ACQUIRE l"); /* a new one */
    tell(&c, "LOCK.ACQUIRE l");
    until_waiting(1);
    expect(&a, "+OK", "FLUSHALL");
    expect_next(&c, "-GONE *");
    /* a manager's */
    ask(&a, "MANAGER.OPEN");
    char prefix[64];
    take_id(&a, prefix);
    expect(&b, "+OK", "LOCK.ACQUIRE %sl", prefix);
    tell(&c, "LOCK.ACQUIRE %sl", prefix);
    until_waiting(1);
    expect(&a, "+OK", "MANAGER.CLOSE %s", prefix);
    expect_next(&c, "-GONE *");
    expect(&b, "-NOMANAGER *", "LOCK.ACQUIRE %sl", prefix);
}

Test(locks, holder_ends) {
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    expect(&a, "+OK", "RLOCK.ACQUIRE r");
    expect(&a, "+OK", "RLOCK.ACQUIRE r");
    tell(&b, "LOCK.ACQUIRE l");
    tell(&c, "RLOCK.ACQUIRE r");
    until_waiting(2);
    wire_close(&a);
    expect_next(&b, "+OWNER_DIED");
    expect_next(&c, "+OWNER_DIED");
    expect(&b, ":1", "LOCK.ISHELD l");
    /* RESET lets go too */
    serve_connect(&a);
    tell(&a, "LOCK.ACQUIRE l");
    until_waiting(1);
    expect(&b, "+RESET", "RESET");
    expect_next(&a, "+OWNER_DIED");
    expect(&b, "-NOTOWNER *", "LOCK.RELEASE l");
    /* who has died while nobody waited */
    expect(&a, "+OK", "LOCK.ACQUIRE n");
    wire_close(&a);
    ask(&b, "LOCK.ACQUIRE n");
    cr_expect(like("+OWNER_DIED", wire_show(&b)) || like("+OK", wire_show(&b)));
    cr_expect_geq(info_number(&b, "sync_owners_died"), 3);
}

/* A process that is killed at any moment lets go of what its connection holds. */
static int hold_and_hang(void *arg) {
    struct wire w = {.fd = -1};
    (void)arg;
    if (wire_open(&w, server.socket) < 0 ||
        strcmp(wire_call(&w, "LOCK.ACQUIRE", "l", NULL), "+OK") != 0 ||
        strcmp(wire_call(&w, "SEM.ACQUIRE", "s", "2", NULL), "+OK") != 0 ||
        strcmp(wire_call(&w, "SET", "held", "1", NULL), "+OK") != 0) {
        return 1;
    }
    for (;;) {
        pause();
    }
}

Test(locks, holder_is_killed) {
    expect(&a, ":1", "SEM.CREATE s 3");
    for (int i = 0; i < 5; i++) {
        pid_t pid = child_start(hold_and_hang, NULL);
        cr_assert_gt(pid, 0);
        while (!like(":1", ask(&a, "EXISTS held"))) {
        }
        expect(&a, ":1", "SEM.VALUE s");
        tell(&b, "LOCK.ACQUIRE l");
        tell(&c, "SEM.ACQUIRE s 3");
        until_waiting(2);
        child_kill(pid);
        expect_next(&b, "+OWNER_DIED");
        expect_next(&c, "+*");
        expect(&b, "+OK", "LOCK.RELEASE l");
        expect(&c, "+OK", "SEM.RELEASE s 3");
        expect(&a, ":1", "DEL held");
    }
}

Test(locks, waiter_ends) {
    struct wire d = {.fd = -1};
    serve_connect(&d);
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    tell(&b, "LOCK.ACQUIRE l");
    until_waiting(1);
    tell(&c, "LOCK.ACQUIRE l");
    until_waiting(2);
    wire_close(&b);
    until_waiting(1);
    expect(&a, "+OK", "LOCK.RELEASE l");
    expect_next(&c, "+OK");
    /* granted, and gone before it has heard of it */
    for (int i = 0; i < 50; i++) {
        serve_connect(&b);
        tell(&b, "LOCK.ACQUIRE l");
        until_waiting(1);
        tell(&d, "LOCK.ACQUIRE l");
        until_waiting(2);
        expect(&c, "+OK", "LOCK.RELEASE l");
        wire_close(&b);
        const char *got = hear(&d);
        cr_assert(like("+OWNER_DIED", got) || like("+OK", got), "%s", got);
        expect(&d, "+OK", "LOCK.RELEASE l");
        got = ask(&c, "LOCK.ACQUIRE l");
        cr_assert(like("+OWNER_DIED", got) || like("+OK", got), "%s", got);
    }
    wire_close(&d);
}

Test(locks, unblock) {
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    long long id = id_of(&b);
    tell(&b, "LOCK.ACQUIRE l");
    until_waiting(1);
    expect(&a, "*flags=b*", "CLIENT LIST ID %lld", id);
    expect(&a, ":1", "CLIENT UNBLOCK %lld", id);
    expect_next(&b, "nil");
    tell(&b, "LOCK.ACQUIRE l");
    until_waiting(1);
    expect(&a, ":1", "CLIENT UNBLOCK %lld ERROR", id);
    expect_next(&b, "-UNBLOCKED *");
    expect(&a, ":0", "CLIENT UNBLOCK %lld", id);
    expect(&b, "nil", "LOCK.ACQUIRE l NOWAIT"); /* as ever */
    expect(&a, "+OK", "LOCK.RELEASE l");
    expect(&b, "+OK", "LOCK.ACQUIRE l");
}

Test(locks, exec_waits_for_nothing) {
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    expect(&b, "+OK", "MULTI");
    expect(&b, "+QUEUED", "LOCK.ACQUIRE l");
    expect(&b, "+QUEUED", "LOCK.ACQUIRE mine");
    expect(&b, "+QUEUED", "EVENT.WAIT e TIMEOUT 5000");
    expect(&b, "+QUEUED", "EVENT.SET e");
    expect(&b, "+QUEUED", "EVENT.WAIT e");
    expect(&b, "[nil +OK nil +OK +OK]", "EXEC");
    expect(&a, "nil", "LOCK.ACQUIRE mine NOWAIT");
    expect(&b, "+OK", "LOCK.RELEASE mine");
    /* all or nothing */
    expect(&b, "+OK", "MULTI");
    expect(&b, "+QUEUED", "LOCK.ACQUIRE mine");
    expect(&b, "+QUEUED", "LOCK.RELEASE l");
    expect(&b, "-EXECABORT *NOTOWNER*", "EXEC.ALL");
    expect(&a, "+OK", "LOCK.ACQUIRE mine NOWAIT");
}

Test(locks, rlock) {
    expect(&a, "+OK", "RLOCK.ACQUIRE r");
    expect(&a, "+OK", "RLOCK.ACQUIRE r NOWAIT");
    expect(&b, "nil", "RLOCK.ACQUIRE r NOWAIT");
    expect(&b, "-NOTOWNER *", "RLOCK.RELEASE r");
    tell(&b, "RLOCK.ACQUIRE r");
    until_waiting(1);
    expect(&a, "+OK", "RLOCK.RELEASE r");
    expect(&a, "+OK", "RLOCK.RELEASE r");
    expect_next(&b, "+OK");
    expect(&a, "-NOTOWNER *", "RLOCK.RELEASE r");
}

Test(locks, deadlock) {
    expect(&a, "+OK", "LOCK.ACQUIRE x");
    expect(&a, "-DEADLOCK *", "LOCK.ACQUIRE x"); /* by itself */
    expect(&a, "nil", "LOCK.ACQUIRE x NOCHECK TIMEOUT 20");
    expect(&b, "+OK", "LOCK.ACQUIRE y");
    expect(&c, "+OK", "RLOCK.ACQUIRE z");
    tell(&a, "LOCK.ACQUIRE y");
    until_waiting(1);
    tell(&b, "RLOCK.ACQUIRE z");
    until_waiting(2);
    expect(&c, "-DEADLOCK *", "LOCK.ACQUIRE x");
    expect(&c, "-DEADLOCK *", "LOCK.ACQUIRE x TIMEOUT 60000");
    char circle[128];
    snprintf(circle, sizeof(circle), "its process %d waits for %d waits for %d waits for %d\n",
             (int)getpid(), (int)getpid(), (int)getpid(), (int)getpid());
    cr_expect(strstr(daemon_log(&server), circle), "%s", daemon_log(&server));
    cr_expect(strstr(daemon_log(&server), " has the lock already"));
    expect(&c, "+OK", "RLOCK.RELEASE z");
    expect_next(&b, "+OK");
    expect(&b, "+OK", "LOCK.RELEASE y");
    expect_next(&a, "+OK");
    cr_expect_geq(info_number(&a, "sync_deadlocks"), 2);
}

Test(locks, list) {
    expect(&a, "[]", "LOCK.LIST");
    expect(&a, "+OK", "CLIENT SETNAME ada");
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    tell(&b, "LOCK.ACQUIRE l");
    until_waiting(1);
    expect(&c, "[]", "LOCK.LIST m*");
    expect(&c,
           "[[\"key\" \"l\" \"type\" \"lock\" \"holders\" [[\"pid\" :* \"uid\" :* \"client\" :* "
           "\"name\" "
           "\"ada\" \"mode\" \"exclusive\" \"count\" :1 \"ms\" :*]] \"waiters\" [[\"pid\" :*]]]]",
           "LOCK.LIST l*");
    expect(&c, "*", "HELLO 3");
    expect(
        &c,
        "[{\"key\" \"l\" \"type\" \"lock\" \"holders\" [{\"pid\" :*}] \"waiters\" [{\"pid\" :*}]}]",
        "LOCK.LIST");
}

enum { MANY = 3000 };

/* More than there are slots in the segment. Each gets it once, in the order of their coming. */
Test(locks, three_thousand_in_line) {
    struct rlimit r;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &r), 0);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    if (r.rlim_cur < 2 * MANY) {
        cr_skip_test("too few descriptors");
    }
    struct wire *w = calloc(MANY, sizeof(*w));
    cr_assert(w);
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    for (int i = 0; i < MANY; i++) {
        serve_connect(&w[i]);
        /* one after the other: each is answered, and waits, before the next comes */
        expect(&w[i], "+PONG", "PING");
        tell(&w[i], "LOCK.ACQUIRE l");
        if (i % 100 == 99) {
            until_waiting(i + 1);
        }
    }
    until_waiting(MANY);
    expect(&a, "+OK", "LOCK.RELEASE l");
    expect(&a, "nil", "LOCK.ACQUIRE l NOWAIT");
    for (int n = 0; n < MANY; n++) {
        expect_next(&w[n], n % 3 == 1 ? "+OWNER_DIED" : "+OK");
        if (n % 3 == 0) {
            wire_close(&w[n]); /* without a word */
        } else {
            expect(&w[n], "+OK", "LOCK.RELEASE l");
        }
    }
    expect(&a, "+OK", "LOCK.ACQUIRE l NOWAIT");
    for (int i = 0; i < MANY; i++) {
        wire_close(&w[i]);
    }
    free(w);
    until_waiting(0);
    until_info("sync_owners", 1);
    expect(&a, "*\"errors\" :0*", "SEGMENT.CHECK");
}

/* ---- reader-writer locks ---- */

Test(locks, rwlock) {
    struct wire d = {.fd = -1};
    serve_connect(&d);
    expect(&a, "+OK", "RWLOCK.READ r");
    expect(&b, "+OK", "RWLOCK.READ r");
    expect(&c, "nil", "RWLOCK.WRITE r TIMEOUT 10");
    tell(&c, "RWLOCK.WRITE r");
    until_waiting(1);
    expect(&d, "nil", "RWLOCK.READ r NOWAIT"); /* behind the writer */
    tell(&d, "RWLOCK.READ r");
    until_waiting(2);
    expect(&a, "+OK", "RWLOCK.RELEASE r");
    wire_close(&b); /* a reader that dies spoils nothing */
    expect_next(&c, "+*");
    expect(&c, "+OK", "RWLOCK.RELEASE r");
    expect_next(&d, "+OK");
    expect(&a, "-NOTOWNER *", "RWLOCK.RELEASE r");
    expect(&d, "+OK", "RWLOCK.RELEASE r");
    /* by one who has it already */
    expect(&c, "+OK", "RWLOCK.READ r");
    expect(&c, "-DEADLOCK *", "RWLOCK.WRITE r");
    expect(&c, "nil", "RWLOCK.WRITE r NOCHECK TIMEOUT 10");
    expect(&c, "+OK", "RWLOCK.RELEASE r");
    expect(&c, "+OK", "RWLOCK.WRITE r");
    expect(&c, "-DEADLOCK *", "RWLOCK.READ r");
    expect(&c, "nil", "RWLOCK.READ r NOCHECK TIMEOUT 10");
    expect(&c, "nil", "RWLOCK.WRITE r NOCHECK NOWAIT");
    tell(&d, "RWLOCK.READ r");
    until_waiting(1);
    wire_close(&c);
    expect_next(&d, "+OWNER_DIED");
    wire_close(&d);
}

/* ---- semaphores ---- */

Test(locks, semaphore) {
    expect(&a, ":1", "SEM.CREATE s 2 BOUNDED");
    expect(&a, ":0", "SEM.CREATE s 2 BOUNDED");
    expect(&a, "-EXISTS *", "SEM.CREATE s 3 BOUNDED");
    expect(&a, "-EXISTS *", "SEM.CREATE s 2");
    expect(&a, "+semaphore", "TYPE s");
    expect(&a, ":2", "SEM.VALUE s");
    expect(&a, "+OK", "SEM.ACQUIRE s");
    expect(&a, "+OK", "SEM.ACQUIRE s 1 NOWAIT");
    expect(&b, "nil", "SEM.ACQUIRE s NOWAIT");
    expect(&b, "nil", "SEM.ACQUIRE s TIMEOUT 10");
    tell(&b, "SEM.ACQUIRE s 2");
    until_waiting(1);
    tell(&c, "SEM.ACQUIRE s");
    until_waiting(2);
    expect(&a, "+OK", "SEM.RELEASE s"); /* for b, who is first, not enough */
    expect(&a, "*\"waiters\" [[\"pid\"*]*[\"pid\"*]*", "LOCK.LIST s");
    wire_close(&a);
    expect_next(&b, "+*");
    expect(&b, "+OK", "SEM.RELEASE s 2");
    expect_next(&c, "+OK");
    expect(&b, ":1", "SEM.VALUE s");
    expect(&b, "+OK", "SEM.RELEASE s");
    expect(&b, "-OVERFLOW *", "SEM.RELEASE s");
    /* unbounded */
    expect(&b, ":1", "SEM.CREATE u 0");
    tell(&c, "SEM.ACQUIRE u 3");
    until_waiting(1);
    expect(&b, "+OK", "SEM.RELEASE u 5");
    expect_next(&c, "+OK");
    expect(&b, ":2", "SEM.VALUE u");
}

/* ---- events ---- */

Test(locks, event) {
    expect(&a, ":0", "EVENT.ISSET e");
    expect(&a, "nil", "EVENT.WAIT e NOWAIT");
    expect(&a, "nil", "EVENT.WAIT e TIMEOUT 10");
    tell(&b, "EVENT.WAIT e");
    tell(&c, "EVENT.WAIT e TIMEOUT 60000");
    until_waiting(2);
    expect(&a, "+OK", "EVENT.SET e");
    expect_next(&b, "+OK");
    expect_next(&c, "+OK");
    expect(&a, ":1", "EVENT.ISSET e");
    expect(&a, "+OK", "EVENT.WAIT e NOWAIT");
    expect(&a, "+event", "TYPE e");
    expect(&a, "+OK", "EVENT.CLEAR e");
    expect(&a, ":0", "EVENT.ISSET e");
    /* set and cleared in one turn: who waited has seen it */
    tell(&b, "EVENT.WAIT e");
    until_waiting(1);
    cr_assert_eq(wire_send_raw(&a, "EVENT.SET e\r\nEVENT.CLEAR e\r\n", 28), 0);
    expect_next(&a, "+OK");
    expect_next(&a, "+OK");
    expect_next(&b, "+OK");
}

/* ---- conditions ---- */

Test(locks, condition) {
    expect(&a, "-NOTOWNER *", "COND.WAIT c l");
    expect(&a, ":0", "COND.NOTIFY c");
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    expect(&a, "nil", "COND.WAIT c l TIMEOUT 10");
    expect(&b, ":1", "LOCK.ISHELD l"); /* it has it again */
    tell(&a, "COND.WAIT c l");
    expect(&b, "+OK", "LOCK.ACQUIRE l"); /* it has let go */
    tell(&b, "COND.WAIT c l");
    until_waiting(2);
    expect(&c, "+OK", "LOCK.ACQUIRE l");
    expect(&c, ":1", "COND.NOTIFY c"); /* the first */
    expect(&c, "+OK", "LOCK.RELEASE l");
    expect_next(&a, "+OK");
    expect(&c, "nil", "LOCK.ACQUIRE l NOWAIT");
    expect(&a, ":1", "COND.NOTIFYALL c");
    expect(&a, "+OK", "LOCK.RELEASE l");
    expect_next(&b, "+OK");
    expect(&b, "+OK", "LOCK.RELEASE l");
    /* its time is over while another has the lock: it waits for that all the same */
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    tell(&b, "LOCK.ACQUIRE l");
    until_waiting(1);
    tell(&a, "COND.WAIT c l TIMEOUT 30");
    expect_next(&b, "+OK");
    uint64_t until = clock_now() + 100 * NS_PER_MS;
    while (clock_now() < until) {
        expect(&c, ":1", "LOCK.ISHELD l");
    }
    expect(&b, "+OK", "LOCK.RELEASE l");
    expect_next(&a, "nil");
    expect(&a, "+OK", "LOCK.RELEASE l");
    /* an rlock comes back at its former depth */
    expect(&a, "+OK", "RLOCK.ACQUIRE r");
    expect(&a, "+OK", "RLOCK.ACQUIRE r");
    tell(&a, "COND.WAIT c r");
    expect(&b, "+OK", "RLOCK.ACQUIRE r");
    expect(&b, ":1", "COND.NOTIFY c 5");
    expect(&b, "+OK", "RLOCK.RELEASE r");
    expect_next(&a, "+OK");
    expect(&a, "+OK", "RLOCK.RELEASE r");
    expect(&b, "nil", "RLOCK.ACQUIRE r NOWAIT");
    expect(&a, "+OK", "RLOCK.RELEASE r");
    expect(&a, "+condition", "TYPE c");
    /* deleted: whoever waits is told */
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    tell(&a, "COND.WAIT c l");
    until_waiting(1);
    expect(&b, ":1", "DEL c");
    expect_next(&a, "-GONE *");
}

/* ---- barriers ---- */

Test(locks, barrier) {
    expect(&a, ":1", "BARRIER.CREATE x 3");
    expect(&a, ":0", "BARRIER.CREATE x 3");
    expect(&a, "-EXISTS *", "BARRIER.CREATE x 2");
    expect(&a, "+barrier", "TYPE x");
    for (int i = 0; i < 3; i++) {
        tell(&a, "BARRIER.WAIT x");
        until_waiting(1);
        tell(&b, "BARRIER.WAIT x");
        until_waiting(2);
        expect(&c, "[\"parties\" :3 \"waiting\" :2 \"broken\" :0]", "BARRIER.INFO x");
        tell(&c, "BARRIER.WAIT x");
        int64_t sum = 0;
        struct wire *all[] = {&a, &b, &c};
        for (int k = 0; k < 3; k++) {
            hear(all[k]);
            cr_assert_eq(all[k]->doc.v[0].type, RESP_INT, "%s", wire_show(all[k]));
            sum += INT64_C(1) << all[k]->doc.v[0].integer;
        }
        cr_assert_eq(sum, 7);
    }
    tell(&a, "BARRIER.WAIT x");
    until_waiting(1);
    expect(&b, "+OK", "BARRIER.ABORT x");
    expect_next(&a, "-BROKEN *");
    expect(&a, "-BROKEN *", "BARRIER.WAIT x");
    expect(&a, "*\"broken\" :1*", "BARRIER.INFO x");
    expect(&b, "+OK", "BARRIER.RESET x");
    tell(&a, "BARRIER.WAIT x");
    until_waiting(1);
    expect(&b, "nil", "BARRIER.WAIT x TIMEOUT 10"); /* which breaks it */
    expect_next(&a, "-BROKEN *");
    expect(&b, "+OK", "BARRIER.RESET x");
    tell(&a, "BARRIER.WAIT x");
    tell(&b, "BARRIER.WAIT x");
    until_waiting(2);
    wire_close(&a);
    expect_next(&b, "-BROKEN *");
    expect(&b, "+OK", "BARRIER.RESET x");
    tell(&b, "BARRIER.WAIT x");
    until_waiting(1);
    expect(&c, "+OK", "BARRIER.RESET x");
    expect_next(&b, "-BROKEN *");
    expect(&b, "*\"waiting\" :0 \"broken\" :0*", "BARRIER.INFO x");
}

/* ---- who may ---- */

Test(locks, figures) {
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    tell(&b, "LOCK.ACQUIRE l");
    until_waiting(1);
    cr_expect_eq(info_number(&a, "sync_owners"), 2);
    cr_expect_eq(info_number(&a, "blocked_clients"), 1);
    expect(&c, "*hearth_sync_waiting 1*", "METRICS.READ");
    wire_close(&b);
    until_info("sync_owners", 1);
}
