/* SPDX-License-Identifier: MIT */
/* Recording histories. The stamps are one atomic counter, which orders calls more strictly than any clock: a call that ended
 * before another began has the smaller stamps. A call's record is published before it is made, so a process that dies in it leaves
 * a record without a response.
 *
 * What is set and pushed is different each time, so a value tells which call it came from.
 *
 * Fails: load_judge() says in words what is wrong, with the calls around it on stderr. */
#include "tests/crash/linear_load.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/cleanup.h"
#include "lib/base/num.h"

const char *const load_names[LOAD_KEYS] = {"number", "text", "number", "text", "list", "other"};
const char load_dict[5] = "dict";

enum { LIST_LONG = 30, AROUND = 12 };

struct load *load_new(uint64_t seed) {
    struct load *l =
        mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(l != MAP_FAILED);
    l->seed = seed;
    atomic_store(&l->stamp, 1);
    return l;
}

/* ---- texts ---- */

uint32_t load_text(enum load_key key, int64_t v, char out[LOAD_TEXT]) {
    uint32_t len = (uint32_t)num_put_i64(out, v);
    if (key == LOAD_VALUE || key == LOAD_FIELD) {
        return len;
    }
    out[len++] = ' ';
    uint32_t want = v % 5 == 0 ? 500 : 24 + (uint32_t)(v % 40);
    while (len < want) {
        out[len] = (char)('a' + (v + len) % 26);
        len++;
    }
    return len;
}

int load_number(enum load_key key, const void *data, uint64_t len, int64_t *ret) {
    char want[LOAD_TEXT];
    const char *end = memchr(data, ' ', len);
    int64_t v;
    if (num_i64(data, end ? (size_t)(end - (const char *)data) : len, &v)) {
        return -EBADMSG;
    }
    if (load_text(key, v, want) != len || memcmp(want, data, len) != 0) {
        return -EBADMSG;
    }
    *ret = v;
    return 0;
}

/* ---- making calls ---- */

struct maker {
    struct load *l;
    int p;
    uint64_t random;
    int64_t last[LOAD_KEYS]; /* what this process saw last: what a swap expects */
    int64_t length[LOAD_KEYS];
};

static uint64_t rnd(struct maker *m, uint64_t below) {
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (m->random >> 33) % below;
}

static void draw_list_call(struct maker *m, enum load_key key, struct linear_call *c) {
    static const uint8_t kinds[] = {LINEAR_PUSH_LEFT, LINEAR_PUSH_RIGHT, LINEAR_POP_LEFT,
                                    LINEAR_POP_RIGHT, LINEAR_PUSH_RIGHT, LINEAR_POP_LEFT,
                                    LINEAR_LENGTH,    LINEAR_FIRST};
    c->kind = kinds[rnd(m, ARRAY_SIZE(kinds))];
    if (m->length[key] > LIST_LONG && c->kind <= LINEAR_PUSH_RIGHT) {
        c->kind += LINEAR_POP_LEFT - LINEAR_PUSH_LEFT;
    }
}

static void draw_call(struct maker *m, enum load_key key, int64_t fresh, struct linear_call *c) {
    bool number = key == LOAD_VALUE || key == LOAD_FIELD;
    *c = (struct linear_call){.process = (uint16_t)m->p, .a = fresh};
    if (key >= LOAD_LIST) {
        draw_list_call(m, key, c);
        return;
    }
    uint64_t dice = rnd(m, 8);
    c->kind = dice < 4 ? LINEAR_GET : dice < 6 ? LINEAR_SET : LINEAR_SWAP;
    if (number && dice >= 5) {
        c->kind = LINEAR_ADD;
        c->a = 1;
    } else if (c->kind == LINEAR_SWAP) {
        c->a = m->last[key];
        c->b = rnd(m, 4) ? fresh : LINEAR_NONE;
    } else if (c->kind == LINEAR_SET && rnd(m, 6) == 0) {
        c->a = LINEAR_NONE; /* deletes it */
    }
}

static void learn(struct maker *m, enum load_key key, const struct linear_call *c) {
    switch ((enum linear_kind)c->kind) {
    case LINEAR_GET:
    case LINEAR_ADD:
        m->last[key] = c->result;
        break;
    case LINEAR_SET:
        m->last[key] = c->a;
        break;
    case LINEAR_SWAP:
        m->last[key] = c->result ? c->b : m->last[key];
        break;
    case LINEAR_PUSH_LEFT:
    case LINEAR_PUSH_RIGHT:
    case LINEAR_LENGTH:
        m->length[key] = c->result;
        break;
    default:
        m->length[key]--;
    }
}

int load_run(struct load *l, int p, load_do *fn, void *arg) {
    struct load_log *log = &l->logs[p];
    struct maker m = {
        .l = l, .p = p, .random = l->seed + (uint64_t)p + atomic_load(&l->stamp) * 64};
    for (int i = 0; i < LOAD_KEYS; i++) {
        m.last[i] = LINEAR_NONE;
    }
    uint64_t limit = l->limit && l->limit < LOAD_CALLS ? l->limit : LOAD_CALLS;
    for (uint64_t n; (n = atomic_load(&log->n)) < limit;) {
        struct load_call *c = &log->calls[n];
        /* mostly on one key for a while, so that they meet there */
        enum load_key key = (enum load_key)(rnd(&m, 4) ? atomic_load(&l->stamp) / 256 % LOAD_KEYS
                                                       : rnd(&m, LOAD_KEYS));
        draw_call(&m, key, (int64_t)(p + 1) * 100000000 + (int64_t)n, &c->call);
        c->key = key;
        c->call.invoked = atomic_fetch_add(&l->stamp, 1);
        atomic_store(&log->n, n + 1);
        int r = fn(arg, key, &c->call);
        if (r) {
            fprintf(stderr, "# process %d: %s %s: %s\n", p, linear_names[c->call.kind],
                    load_names[key], strerror(-r));
            return r;
        }
        atomic_signal_fence(memory_order_seq_cst);
        c->call.responded = atomic_fetch_add(&l->stamp, 1);
        learn(&m, key, &c->call);
    }
    return 0;
}

void load_died(struct load *l, int p) {
    struct load_log *log = &l->logs[p];
    uint64_t n = atomic_load(&log->n);
    if (n && !log->calls[n - 1].call.responded) {
        log->calls[n - 1].call.unknown = true;
        log->calls[n - 1].call.responded = atomic_fetch_add(&l->stamp, 1);
    }
}

/* ---- judging ---- */

static void show_around(const struct linear_call *calls, size_t n, size_t bad) {
    for (size_t i = bad > AROUND ? bad - AROUND : 0; i < n && i < bad + AROUND; i++) {
        const struct linear_call *c = &calls[i];
        fprintf(stderr,
                "# %s %" PRIu64 "-%" PRIu64 " process %d: %s %" PRId64 " %" PRId64 " -> %" PRId64
                "%s\n",
                i == bad ? "*" : " ", c->invoked, c->responded, c->process, linear_names[c->kind],
                c->a, c->b, c->result, c->unknown ? " (died)" : "");
    }
}

static void count(const struct linear_call *calls, size_t n, struct load_counts *counts) {
    uint64_t latest = 0; /* sorted by invocation */
    for (size_t i = 0; i < n; i++) {
        counts->overlapped += calls[i].invoked < latest;
        counts->unknown += calls[i].unknown;
        latest = calls[i].responded > latest ? calls[i].responded : latest;
    }
    counts->calls += n;
}

const char *load_judge(struct load *l, struct load_counts *counts) {
    static char text[128];
    const char *wrong = NULL;
    _cleanup_free_ struct linear_call *calls =
        calloc((size_t)LOAD_PROCESSES * LOAD_CALLS, sizeof(*calls));
    if (!calls) {
        return "no memory";
    }
    for (uint32_t key = 0; key < LOAD_KEYS; key++) {
        size_t n = 0, bad = 0;
        for (int p = 0; p < LOAD_PROCESSES; p++) {
            struct load_log *log = &l->logs[p];
            for (uint64_t i = 0; i < atomic_load(&log->n); i++) {
                if (log->calls[i].key == key) {
                    calls[n++] = log->calls[i].call;
                }
            }
        }
        int r = linear_check(calls, n, &bad);
        if (r != 1 && !wrong) {
            snprintf(text, sizeof(text), "key %u (%s): %s", (unsigned)key, load_names[key],
                     r ? strerror(-r) : "not linearizable");
            wrong = text;
            show_around(calls, r ? 0 : n, bad);
        }
        count(calls, n, counts);
    }
    memset(l->logs, 0, sizeof(l->logs));
    return wrong;
}
