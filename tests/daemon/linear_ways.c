/* SPDX-License-Identifier: MIT */
/* Linearizability whichever way in: processes make calls on a few hot keys through libhearth, some over the socket, some in mapped
 * memory, one mapped for reading only, all at once on the same keys; the histories they record are decided by linear_check.c. In
 * every other round an alarm kills each after a while, in the midst of a call as likely as not, and another takes its place.
 *
 * What a dead one did in memory is decided by its death: committed, or undone before anybody else looks. What it asked for over the
 * socket may still happen until the daemon has seen the end of its connection: only then its last call is over.
 *
 * HEARTH_LINEAR_ROUNDS: how many (default 4); HEARTH_SEED repeats a series of choices.
 * Fails: says what is wrong and shows the calls around it, exit status 1. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "client/hearth.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "tests/crash/linear_load.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

enum { PROCESSES = 5, CALLS = 8000 };
#define ROUND_LIMIT (60 * NS_PER_SEC)
#define GONE_LIMIT  (10 * NS_PER_SEC)
_Static_assert((int)PROCESSES <= (int)LOAD_PROCESSES, "each has a log");

enum way { SOCKET, MAPPED, MAPPED_READONLY };
static const enum way ways[PROCESSES] = {SOCKET, MAPPED, SOCKET, MAPPED, MAPPED_READONLY};

static struct daemon d;
static struct hearth *control;
static struct load *load;
static pid_t pids[PROCESSES];
static unsigned starts[PROCESSES];
static uint64_t seed, began;
static bool deadly;

#define T hearth_text

/* ---- the calls ---- */

static int found(enum load_key key, int r, struct hearth_bytes b, struct linear_call *c) {
    if (r == HEARTH_E_ABSENT) {
        c->result = LINEAR_NONE;
        return 0;
    }
    return r ? r : load_number(key, b.data, b.len, &c->result);
}

static int do_get(struct hearth *h, enum load_key key, struct linear_call *c) {
    struct hearth_bytes b = {0};
    struct hearth_bytes name = T(load_names[key]);
    int r = key < LOAD_FIELD ? hearth_value_get(h, name, &b)
                             : hearth_dict_get(h, (struct hearth_bytes){load_dict, 4}, name, &b);
    return found(key, r, b, c);
}

static int do_set(struct hearth *h, enum load_key key, int64_t v) {
    char text[LOAD_TEXT];
    struct hearth_bytes name = T(load_names[key]), dict = {load_dict, 4};
    if (v == LINEAR_NONE) {
        return key < LOAD_FIELD ? hearth_object_delete(h, &name, 1, NULL)
                                : hearth_dict_delete(h, dict, &name, 1, NULL);
    }
    struct hearth_bytes b = {text, load_text(key, v, text)};
    return key < LOAD_FIELD ? hearth_value_set(h, name, b, HEARTH_ALWAYS, 0)
                            : hearth_dict_set(h, dict, name, b, NULL);
}

static int do_add(struct hearth *h, enum load_key key, struct linear_call *c) {
    struct hearth_bytes name = T(load_names[key]);
    return key < LOAD_FIELD
               ? hearth_value_add(h, name, c->a, &c->result)
               : hearth_dict_add(h, (struct hearth_bytes){load_dict, 4}, name, c->a, &c->result);
}

static int do_swap(struct hearth *h, enum load_key key, struct linear_call *c) {
    char a[LOAD_TEXT], b[LOAD_TEXT];
    struct hearth_bytes name = T(load_names[key]);
    struct hearth_bytes is = {a, c->a == LINEAR_NONE ? 0 : load_text(key, c->a, a)};
    struct hearth_bytes next = {b, c->b == LINEAR_NONE ? 0 : load_text(key, c->b, b)};
    int done = 0, r;
    if (key >= LOAD_FIELD) {
        r = hearth_dict_swap(h, (struct hearth_bytes){load_dict, 4}, name,
                             c->a == LINEAR_NONE ? NULL : &is, c->b == LINEAR_NONE ? NULL : &next,
                             &done);
        c->result = done;
        return r;
    }
    struct hearth_op ops[2] = {
        {.kind = HEARTH_OP_VALUE_EXPECT, .name = name},
        {.kind = c->b == LINEAR_NONE ? HEARTH_OP_DELETE : HEARTH_OP_VALUE_SET, .name = name},
    };
    ops[0].value = c->a == LINEAR_NONE ? (struct hearth_bytes){0} : is;
    ops[1].value = next;
    r = hearth_transaction(h, ops, 2);
    c->result = r == 0;
    return r == HEARTH_E_UNEXPECTED ? 0 : r;
}

static int do_list(struct hearth *h, enum load_key key, struct linear_call *c) {
    char text[LOAD_TEXT];
    struct hearth_bytes name = T(load_names[key]), b = {text, 0};
    bool left = c->kind == LINEAR_PUSH_LEFT || c->kind == LINEAR_POP_LEFT;
    enum hearth_end end = left ? HEARTH_LEFT : HEARTH_RIGHT;
    uint64_t n = 0;
    int r;
    switch ((enum linear_kind)c->kind) {
    case LINEAR_PUSH_LEFT:
    case LINEAR_PUSH_RIGHT:
        b.len = load_text(key, c->a, text);
        r = hearth_list_push(h, name, end, &b, 1, &n);
        c->result = (int64_t)n;
        return r;
    case LINEAR_LENGTH:
        r = hearth_list_length(h, name, &n);
        c->result = (int64_t)n;
        return r;
    case LINEAR_FIRST:
        return found(key, hearth_list_at(h, name, 0, &b), b, c);
    default:
        return found(key, hearth_list_pop(h, name, end, &b), b, c);
    }
}

static int do_call(void *arg, enum load_key key, struct linear_call *c) {
    struct hearth *h = arg;
    switch ((enum linear_kind)c->kind) {
    case LINEAR_GET:
        return do_get(h, key, c);
    case LINEAR_SET:
        return do_set(h, key, c->a);
    case LINEAR_ADD:
        return do_add(h, key, c);
    case LINEAR_SWAP:
        return do_swap(h, key, c);
    default:
        return do_list(h, key, c);
    }
}

/* ---- the processes ---- */

static void name_of(int p, char ret[32]) {
    snprintf(ret, 32, "load-%d-%u", p, starts[p]);
}

static int work(void *arg) {
    int p = (int)(intptr_t)arg;
    char name[32];
    const char *words[] = {"CLIENT", "SETNAME", name};
    const struct hearth_reply *reply;
    struct hearth *h;
    name_of(p, name);
    if (hearth_connect(d.socket, &h) || hearth_command(h, 3, words, NULL, &reply)) {
        return 2;
    }
    if (ways[p] != SOCKET && hearth_attach(h, ways[p] == MAPPED_READONLY)) {
        return 3;
    }
    if (deadly) {
        uint64_t us = 1000 + (seed * (uint64_t)getpid() >> 7) % 20000;
        setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, (suseconds_t)us}}, NULL);
    }
    int r = load_run(load, p, do_call, h);
    if (r) {
        fprintf(stderr, "# process %d: %s: %s\n", p, hearth_strerror(r), hearth_errmsg(h));
        return 4;
    }
    hearth_close(h);
    return 0;
}

static const char *start(int p) {
    starts[p]++;
    pids[p] = child_start(work, (void *)(intptr_t)p);
    return pids[p] < 0 ? "fork" : NULL;
}

/* Nothing that process p, which is dead, has asked for can happen any more. */
static const char *wait_until_gone(int p) {
    const char *words[] = {"CLIENT", "LIST"};
    const struct hearth_reply *list;
    char name[40] = "name=";
    uint64_t until = clock_now() + GONE_LIMIT;
    name_of(p, name + 5);
    strcat(name, " ");
    do {
        if (hearth_command(control, 2, words, NULL, &list) || clock_now() > until) {
            return "a dead client is still listed";
        }
    } while (strstr(hearth_reply_text(list, NULL), name));
    return NULL;
}

/* ---- rounds ---- */

static const char *forget_keys(void) {
    struct hearth_bytes names[LOAD_KEYS + 1] = {T(load_dict)};
    uint64_t n;
    for (int i = 0; i < LOAD_KEYS; i++) {
        names[i + 1] = T(load_names[i]);
    }
    return hearth_object_delete(control, names, ARRAY_SIZE(names), &n) ? "no deletion" : NULL;
}

static const char *look_after(int p, unsigned *busy, uint64_t *killed) {
    int status = child_wait_ms(pids[p], 1);
    if (status == -ETIMEDOUT) {
        return clock_now() - began > ROUND_LIMIT ? "a process is stuck" : NULL;
    }
    if (status != 0 && !(deadly && status == CHILD_SIGNALLED + SIGALRM)) {
        return "a process has failed";
    }
    const char *bad = wait_until_gone(p);
    load_died(load, p);
    *killed += status != 0;
    if (!bad && status) {
        return start(p);
    }
    *busy &= ~(1u << p);
    return bad;
}

static const char *run_round(struct load_counts *counts, uint64_t *killed) {
    const char *bad = forget_keys();
    unsigned busy = (1u << PROCESSES) - 1;
    began = clock_now();
    for (int p = 0; p < PROCESSES && !bad; p++) {
        bad = start(p);
    }
    while (busy && !bad) {
        for (int p = 0; p < PROCESSES && !bad; p++) {
            bad = busy >> p & 1 ? look_after(p, &busy, killed) : NULL;
        }
    }
    return bad ? bad : load_judge(load, counts);
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    uint64_t v;
    return text && num_u64(text, strlen(text), &v) == 0 ? v : otherwise;
}

/* The segment is whole, as the daemon sees it. */
static const char *check_segment(void) {
    const char *words[] = {"SEGMENT.CHECK"};
    const struct hearth_reply *r;
    if (hearth_command(control, 1, words, NULL, &r) || hearth_reply_type(r) != HEARTH_REPLY_MAP) {
        return "no check";
    }
    return hearth_reply_int(hearth_reply_get(r, "errors")) ? "the check finds errors" : NULL;
}

int main(void) {
    static const struct daemon_options options = {
        .config = "limits = { max_mapped = 32; };\nsegment_size = \"16M\";\n"};
    uint64_t rounds = number_from("HEARTH_LINEAR_ROUNDS", 4), killed = 0, since = clock_now();
    uint64_t first_seed = number_from("HEARTH_SEED", clock_wall_ms());
    struct load_counts counts = {0};
    seed = first_seed * 2654435761u + 1;
    load = load_new(first_seed);
    load->limit = CALLS;
    const char *bad =
        daemon_start(&d, &options) || hearth_connect(d.socket, &control) ? "no daemon" : NULL;
    for (uint64_t i = 0; i < rounds && !bad; i++) {
        deadly = i % 2 != 0;
        seed = seed * UINT64_C(6364136223846793005) + 1;
        bad = run_round(&counts, &killed);
    }
    bad = bad ? bad : check_segment();
    hearth_close(control);
    if (daemon_stop(&d) && !bad) {
        bad = "the daemon does not end well";
    }
    child_kill_all();
    if (bad) {
        printf("not ok 1 - %s (seed %llu)\n1..1\n", bad, (unsigned long long)first_seed);
        return 1;
    }
    printf("ok 1 - %llu calls over the socket and in memory (%llu overlapped with another on their "
           "key, %llu died in the midst of one of %llu kills) are linearizable; %.1f s\n1..1\n",
           (unsigned long long)counts.calls, (unsigned long long)counts.overlapped,
           (unsigned long long)counts.unknown, (unsigned long long)killed,
           (double)(clock_now() - since) / 1e9);
    return 0;
}
