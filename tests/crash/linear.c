/* SPDX-License-Identifier: MIT */
/* Linearizability of the shared objects: several processes make calls on a few hot keys, reads without locks among them, and
 * record them; the histories are decided by linear_check.c. In most rounds an alarm kills each after a while, in the midst of
 * a call as likely as not; it is buried and another takes its place, until the logs are full.
 *
 * First the checker itself has to refuse histories that are wrong: a stale read, a lost update, a doubled pop, a call that has
 * its effect after its process was buried; and to accept their neighbours.
 *
 * HEARTH_LINEAR_ROUNDS: how many (default 10); HEARTH_SEED repeats a series of choices.
 * Fails: says what is wrong and shows the calls around it, exit status 1. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/objects.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "tests/crash/linear_load.h"
#include "tests/support/child.h"

enum { PROCESSES = 5 };
#define ROUND_LIMIT (60 * NS_PER_SEC)
_Static_assert((int)PROCESSES <= (int)LOAD_PROCESSES, "each has a log");

static struct shm segment;
static struct load *load;
static struct worker {
    pid_t pid; /* 0: none */
    uint32_t slot, gen;
} workers[PROCESSES];
static uint64_t seed;
static uint64_t began; /* of this round */
static bool deadly;    /* this round: an alarm is each one's death */

/* ---- the calls, in the segment ---- */

static struct task_bytes name_of(enum load_key key) {
    return (struct task_bytes){load_names[key], strlen(load_names[key])};
}

static const struct task_bytes dict = {load_dict, sizeof(load_dict) - 1};

/* What was found, as a number; r is what the call returned. */
static int found(enum load_key key, int r, struct task_bytes b, struct linear_call *c) {
    if (r == -ENOENT) {
        c->result = LINEAR_NONE;
        return 0;
    }
    return r ? r : load_number(key, b.data, b.len, &c->result);
}

static int do_get(struct objects *o, enum load_key key, struct linear_call *c) {
    struct task_bytes b = {0};
    int r = key < LOAD_FIELD ? objects_value_get(o, name_of(key), &b)
                             : objects_dict_get(o, dict, name_of(key), &b);
    return found(key, r, b, c);
}

static int do_set(struct objects *o, enum load_key key, int64_t v) {
    char text[LOAD_TEXT];
    struct task_bytes name = name_of(key);
    int64_t r;
    if (v == LINEAR_NONE) {
        r = key < LOAD_FIELD ? objects_delete(o, &name, 1) : objects_dict_delete(o, dict, &name, 1);
    } else {
        struct task_bytes b = {text, load_text(key, v, text)};
        r = key < LOAD_FIELD ? objects_value_set(o, name, b, OBJECTS_ALWAYS, 0)
                             : objects_dict_set(o, dict, name, b);
    }
    return r < 0 ? (int)r : 0;
}

static int do_add(struct objects *o, enum load_key key, struct linear_call *c) {
    return key < LOAD_FIELD ? objects_value_add(o, name_of(key), c->a, &c->result)
                            : objects_dict_add(o, dict, name_of(key), c->a, &c->result);
}

struct swap {
    enum load_key key;
    struct linear_call *call;
};

static int swap_value(struct objects *o, void *arg) {
    struct swap *w = arg;
    struct linear_call is = {0};
    int r = do_get(o, w->key, &is);
    w->call->result = is.result == w->call->a;
    return r || !w->call->result ? r : do_set(o, w->key, w->call->b);
}

static int do_swap(struct objects *o, enum load_key key, struct linear_call *c) {
    char a[LOAD_TEXT], b[LOAD_TEXT];
    struct swap w = {key, c};
    struct task_bytes name = name_of(key), is, next;
    if (key < LOAD_FIELD) {
        return objects_transaction(o, &name, 1, swap_value, &w);
    }
    is = (struct task_bytes){a, c->a == LINEAR_NONE ? 0 : load_text(key, c->a, a)};
    next = (struct task_bytes){b, c->b == LINEAR_NONE ? 0 : load_text(key, c->b, b)};
    int r = objects_dict_swap(o, dict, name, c->a == LINEAR_NONE ? NULL : &is,
                              c->b == LINEAR_NONE ? NULL : &next);
    c->result = r;
    return r < 0 ? r : 0;
}

static int do_list(struct objects *o, enum load_key key, struct linear_call *c) {
    char text[LOAD_TEXT];
    struct task_bytes name = name_of(key), b = {text, 0};
    bool left = c->kind == LINEAR_PUSH_LEFT || c->kind == LINEAR_POP_LEFT;
    enum objects_end end = left ? OBJECTS_LEFT : OBJECTS_RIGHT;
    switch ((enum linear_kind)c->kind) {
    case LINEAR_PUSH_LEFT:
    case LINEAR_PUSH_RIGHT:
        b.len = load_text(key, c->a, text);
        c->result = objects_list_push(o, name, end, &b, 1);
        return c->result < 0 ? (int)c->result : 0;
    case LINEAR_LENGTH:
        c->result = objects_list_length(o, name);
        return c->result < 0 ? (int)c->result : 0;
    case LINEAR_FIRST:
        return found(key, objects_list_at(o, name, 0, &b), b, c);
    default:
        return found(key, objects_list_pop(o, name, end, &b), b, c);
    }
}

static int do_call(void *arg, enum load_key key, struct linear_call *c) {
    struct objects *o = arg;
    switch ((enum linear_kind)c->kind) {
    case LINEAR_GET:
        return do_get(o, key, c);
    case LINEAR_SET:
        return do_set(o, key, c->a);
    case LINEAR_ADD:
        return do_add(o, key, c);
    case LINEAR_SWAP:
        return do_swap(o, key, c);
    default:
        return do_list(o, key, c);
    }
}

static int work(void *arg) {
    int p = (int)(intptr_t)arg;
    struct shm s = segment;
    struct objects o;
    s.mine = NULL;
    if (slot_attach(&s, workers[p].slot, workers[p].gen)) {
        return 2;
    }
    objects_init(&o, &s);
    if (deadly) { /* where the alarm meets it, whatever instruction that is */
        uint64_t us = 1 + (seed * (uint64_t)getpid() >> 7) % 4000;
        setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, (suseconds_t)us}}, NULL);
    }
    int r = load_run(load, p, do_call, &o);
    objects_deinit(&o);
    return r ? 3 : 0;
}

/* ---- rounds ---- */

static const char *start(int p) {
    if (slot_reserve(&segment, 0, &workers[p].slot, &workers[p].gen)) {
        return "no slot";
    }
    workers[p].pid = child_start(work, (void *)(intptr_t)p);
    return workers[p].pid < 0 ? "fork" : NULL;
}

/* Buries one that is dead. */
static const char *bury(int p) {
    const struct task_outcome lost = {.state = TASK_LOST, .cause = CAUSE_SIGNAL};
    uint64_t until = clock_now() + 5 * NS_PER_SEC;
    uint32_t idx;
    while (slot_bury(&segment, workers[p].slot, workers[p].gen) ||
           task_reap(&segment, workers[p].slot, workers[p].gen, &lost, &idx) < 0) {
        if (clock_now() > until) {
            return "a burial does not succeed";
        }
    }
    slot_release(&segment, workers[p].slot, workers[p].gen);
    load_died(load, p);
    workers[p].pid = 0;
    return NULL;
}

static const char *forget_keys(void) {
    struct objects o;
    struct task_bytes names[LOAD_KEYS + 1] = {dict};
    objects_init(&o, &segment);
    for (int i = 0; i < LOAD_KEYS; i++) {
        names[i + 1] = name_of((enum load_key)i);
    }
    int64_t r = objects_delete(&o, names, ARRAY_SIZE(names));
    objects_deinit(&o);
    return r < 0 ? "the keys cannot be deleted" : NULL;
}

/* Looks after process p: buries it when it has ended, and starts another if there is more to do. */
static const char *look_after(int p, unsigned *busy, uint64_t *killed) {
    int status = child_wait_ms(workers[p].pid, 1);
    if (status == -ETIMEDOUT) {
        return clock_now() - began > ROUND_LIMIT ? "a process is stuck" : NULL;
    }
    if (status != 0 && !(deadly && status == CHILD_SIGNALLED + SIGALRM)) {
        return "a process has failed";
    }
    const char *bad = bury(p);
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

/* ---- the checker must be able to refuse ---- */

struct sample {
    const char *name;
    bool fine;
    struct linear_call calls[6];
};

#define CALL(from, to, p, verb, ...)                                                               \
    { .invoked = (from), .responded = (to), .process = (p), .kind = LINEAR_##verb, __VA_ARGS__ }
#define GIVES .result =

static const struct sample samples[] = {
    {"a read of the new value while it is being set",
     true,
     {CALL(1, 4, 0, SET, .a = 7), CALL(2, 3, 1, GET, GIVES 7)}},
    {"a read of the old value while another is being set",
     true,
     {CALL(1, 2, 0, SET, .a = 7), CALL(3, 6, 0, SET, .a = 8), CALL(4, 5, 1, GET, GIVES 7)}},
    {"a stale read",
     false,
     {CALL(1, 2, 0, SET, .a = 7), CALL(3, 4, 0, SET, .a = 8), CALL(5, 6, 1, GET, GIVES 7)}},
    {"two reads of which the later sees the older",
     false,
     {CALL(1, 2, 0, SET, .a = 7), CALL(3, 8, 0, SET, .a = 8), CALL(4, 5, 1, GET, GIVES 8),
      CALL(6, 7, 2, GET, GIVES 7)}},
    {"two additions at once",
     true,
     {CALL(1, 4, 0, ADD, .a = 1, GIVES 2), CALL(2, 3, 1, ADD, .a = 1, GIVES 1)}},
    {"a lost update",
     false,
     {CALL(1, 4, 0, ADD, .a = 1, GIVES 1), CALL(2, 3, 1, ADD, .a = 1, GIVES 1)}},
    {"two swaps of one value, both successful",
     false,
     {CALL(1, 2, 0, SET, .a = 7), CALL(3, 6, 0, SWAP, .a = 7, .b = 8, GIVES 1),
      CALL(4, 5, 1, SWAP, .a = 7, .b = 9, GIVES 1)}},
    {"a pop while the element is being pushed",
     true,
     {CALL(1, 4, 0, PUSH_LEFT, .a = 7, GIVES 1), CALL(2, 3, 1, POP_RIGHT, GIVES 7)}},
    {"a doubled pop",
     false,
     {CALL(1, 2, 0, PUSH_LEFT, .a = 7, GIVES 1), CALL(3, 6, 0, POP_LEFT, GIVES 7),
      CALL(4, 5, 1, POP_RIGHT, GIVES 7)}},
    {"two pushed one after the other, popped in the wrong order",
     false,
     {CALL(1, 2, 0, PUSH_RIGHT, .a = 7, GIVES 1), CALL(3, 4, 1, PUSH_RIGHT, .a = 8, GIVES 2),
      CALL(5, 6, 0, POP_LEFT, GIVES 8)}},
    {"an element that is lost",
     false,
     {CALL(1, 2, 0, PUSH_RIGHT, .a = 7, GIVES 1), CALL(3, 4, 1, POP_LEFT, GIVES LINEAR_NONE)}},
    {"a call that died and had its effect",
     true,
     {CALL(1, 4, 0, SET, .a = 7, .unknown = true), CALL(2, 3, 1, GET, GIVES LINEAR_NONE),
      CALL(5, 6, 1, GET, GIVES 7)}},
    {"a call that died and had none",
     true,
     {CALL(1, 2, 0, SET, .a = 7, .unknown = true), CALL(5, 6, 1, GET, GIVES LINEAR_NONE)}},
    {"a call that has its effect after the burial",
     false,
     {CALL(1, 2, 0, SET, .a = 7, .unknown = true), CALL(3, 4, 1, GET, GIVES LINEAR_NONE),
      CALL(5, 6, 1, GET, GIVES 7)}},
};

static const char *check_the_checker(void) {
    static char text[160];
    for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
        struct sample s = samples[i];
        size_t n = 0, at;
        while (n < ARRAY_SIZE(s.calls) && s.calls[n].responded) {
            n++;
        }
        int r = linear_check(s.calls, n, &at);
        if (r != s.fine) {
            snprintf(text, sizeof(text), "%s: %d", s.name, r);
            return text;
        }
    }
    return NULL;
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    uint64_t v;
    return text && num_u64(text, strlen(text), &v) == 0 ? v : otherwise;
}

int main(void) {
    uint64_t rounds = number_from("HEARTH_LINEAR_ROUNDS", 10), killed = 0, since = clock_now();
    uint64_t first_seed = number_from("HEARTH_SEED", clock_wall_ms());
    struct load_counts counts = {0};
    uint32_t slot, gen;
    const char *bad = check_the_checker();
    printf("%sok 1 - the checker tells right from wrong%s%s\n", bad ? "not " : "", bad ? ": " : "",
           bad ? bad : "");
    bool fine = !bad;
    seed = first_seed * 2654435761u + 1;
    load = load_new(first_seed);
    int r = shm_create(&segment, &(struct shm_params){.size = 16 << 20, .slots = 16, .tasks = 64});
    r = r ? r : slot_reserve(&segment, 0, &slot, &gen);
    r = r ? r : slot_attach(&segment, slot, gen);
    bad = r ? "no segment" : NULL;
    for (uint64_t i = 0; i < rounds && !bad; i++) {
        deadly = i % 4 != 0;
        seed = seed * UINT64_C(6364136223846793005) + 1;
        bad = run_round(&counts, &killed);
    }
    if (bad) {
        child_kill_all();
        printf("not ok 2 - %s (seed %llu)\n1..2\n", bad, (unsigned long long)first_seed);
        return 1;
    }
    shm_detach(&segment);
    printf(
        "ok 2 - %llu calls (%llu overlapped with another on their key, %llu died in the midst of "
        "one of %llu kills) are linearizable; %.1f s\n1..2\n",
        (unsigned long long)counts.calls, (unsigned long long)counts.overlapped,
        (unsigned long long)counts.unknown, (unsigned long long)killed,
        (double)(clock_now() - since) / 1e9);
    return fine ? 0 : 1;
}
