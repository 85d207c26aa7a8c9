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

#include "tests/daemon/serve_support.h"

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

TestSuite(locks, .timeout = 120, .init = begin, .fini = end);

/* Until so many connections wait. */
static void until_waiting(long long n) {
    struct wire w = {.fd = -1};
    serve_connect(&w);
    while (info_number(&w, "sync_waiting") != n) {
    }
    wire_close(&w);
}

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

enum { MANY = 3000 };

/* More than there are slots in the segment. Each gets it once, in the order of their coming. */
Test(locks, three_thousand_in_line, .timeout = 240) {
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
    unsigned char *seen = calloc(MANY, 1);
    cr_assert(seen);
    for (int n = 0; n < MANY; n++) {
        expect_next(&w[n], n % 3 == 1 ? "+OWNER_DIED" : "+OK");
        if (n % 3 == 0) {
            wire_close(&w[n]); /* without a word */
        } else {
            expect(&w[n], "+OK", "LOCK.RELEASE l");
        }
    }
    free(seen);
    expect(&a, "+OK", "LOCK.ACQUIRE l NOWAIT");
    for (int i = 0; i < MANY; i++) {
        wire_close(&w[i]);
    }
    free(w);
    until_waiting(0);
    while (info_number(&a, "sync_owners") != 1) {
    }
    expect(&a, "*\"errors\" :0*", "SEGMENT.CHECK");
}

Test(locks, figures) {
    expect(&a, "+OK", "LOCK.ACQUIRE l");
    tell(&b, "LOCK.ACQUIRE l");
    until_waiting(1);
    cr_expect_eq(info_number(&a, "sync_owners"), 2);
    cr_expect_eq(info_number(&a, "blocked_clients"), 1);
    expect(&c, "*hearth_sync_waiting 1*", "METRICS.READ");
    wire_close(&b);
    while (info_number(&a, "sync_owners") != 1) {
    }
}
