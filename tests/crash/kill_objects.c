/* SPDX-License-Identifier: MIT */
/* Random death on shared objects (DESIGN section 4.2): processes change dicts, lists, values and several of them at once
 * while the supervisor kills them, buries them and starts others in their place.
 *
 * What must hold is told by a journal in memory of its own: before each change a process writes the number of the change,
 * after the commit it writes it again. So for each process, dead or alive, the number of changes that count is known but
 * for at most one, and what the objects must hold follows from it:
 *     counter:<p>    exactly that number
 *     shared         for each process 16 fields; field i holds the last change of number i modulo 16
 *     log:<p>        the last 40 changes, in order
 *     left, right    together exactly the tokens put in at the start: each change moves one from the one to the other
 *     pair:<p>, twin:<p>  always equal: set by one transaction over both
 * After each series everything is compared, the segment is checked block by block, and at the end nothing may be left.
 *
 * HEARTH_KILLS: how many (default 2,000); HEARTH_SEED repeats a series of choices.
 * Fails: says what is wrong, kills what it started, exit status 1. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/alloc.h"
#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/op.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "tests/support/child.h"

enum { PROCESSES = 5, FIELDS = 16, KEPT = 40, TOKENS = 100 };

struct journal {
    _Atomic uint64_t doing[PROCESSES], done[PROCESSES];
    _Atomic uint64_t changes;
};

static struct journal *journal;
static struct shm segment;
static struct worker {
    pid_t pid;
    uint32_t slot, gen;
} workers[PROCESSES];
static uint64_t seed;

static uint64_t rnd(uint64_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

static struct key_name name(struct shm *s, char buf[32], const char *what, int p) {
    int n = p < 0 ? snprintf(buf, 32, "%s", what) : snprintf(buf, 32, "%s:%d", what, p);
    return key_name(s, buf, (size_t)n);
}

/* The value of change n, of very different sizes. */
static size_t content(char *out, uint64_t n) {
    size_t len = (size_t)snprintf(out, 32, "change %llu ", (unsigned long long)n);
    size_t want = n % 97 == 0 ? 3000 : n % 13 == 0 ? 300 : 20 + n % 40;
    while (len < want) {
        out[len] = (char)('a' + (n + len) % 26);
        len++;
    }
    return len;
}

/* ---- one change, all of it in one operation ---- */

struct change {
    int p;
    uint64_t n;
};

static int add_field(struct shm *s, const struct change *c, const char *value, size_t len) {
    char buf[32], field[32];
    struct key_name k = name(s, buf, "shared", -1);
    struct dict d;
    int r = dict_open(s, &k, true, &d);
    if (r) {
        return r;
    }
    int n = snprintf(field, sizeof(field), "%d.%u", c->p, (unsigned)(c->n % FIELDS));
    /* now and then it goes first, so that the table shrinks and grows */
    r = c->n % 5 == 0 ? dict_remove(s, &d, field, (size_t)n) : 0;
    r = r < 0 ? r : dict_put(s, &d, field, (size_t)n, value, len);
    return r < 0 ? r : dict_close(s, &d);
}

static int add_log(struct shm *s, const struct change *c, const char *value, size_t len) {
    char buf[32];
    struct key_name k = name(s, buf, "log", c->p);
    struct list_object l;
    struct task_bytes gone;
    int r = list_open(s, &k, true, &l);
    r = r ? r : list_push(s, &l, false, value, len);
    if (r == 0 && list_count(&l) > KEPT) {
        r = list_pop(s, &l, true, &gone);
    }
    return r ? r : list_close(s, &l);
}

static int move_token(struct shm *s, bool to_right) {
    char a[32], b[32];
    struct key_name from = name(s, a, to_right ? "left" : "right", -1);
    struct key_name to = name(s, b, to_right ? "right" : "left", -1);
    struct list_object x, y;
    struct task_bytes token;
    int r = list_open(s, &from, false, &x);
    if (r == -ENOENT) {
        return 0;
    }
    r = r ? r : list_open(s, &to, true, &y);
    r = r ? r : list_pop(s, &x, true, &token);
    r = r ? r : list_push(s, &y, false, token.data, token.len);
    r = r ? r : list_close(s, &y);
    return r ? r : list_close(s, &x);
}

static int set_pair(struct shm *s, const struct change *c, const char *value, size_t len) {
    char a[32], b[32];
    struct key_name one = name(s, a, "pair", c->p), two = name(s, b, "twin", c->p);
    int r = value_set(s, &one, value, len, false);
    return r ? r : value_set(s, &two, value, len, false);
}

static int make_change(struct shm *s, void *arg) {
    const struct change *c = arg;
    char value[4096], buf[32];
    size_t len = content(value, c->n);
    struct key_name counter = name(s, buf, "counter", c->p);
    int64_t now;
    int r = value_add(s, &counter, 1, &now);
    r = r ? r : add_field(s, c, value, len);
    r = r ? r : add_log(s, c, value, len);
    r = r ? r : set_pair(s, c, value, len);
    return r ? r : move_token(s, c->n % 2);
}

static int work(void *arg) {
    int p = (int)(intptr_t)arg;
    struct shm s = segment;
    s.mine = NULL;
    s.patience_ns = 20 * NS_PER_SEC;
    if (slot_attach(&s, workers[p].slot, workers[p].gen)) {
        return 2;
    }
    for (;;) {
        struct change c = {p, get(&journal->done[p]) + 1};
        put(&journal->doing[p], c.n);
        keep_order();
        int r = op_run(&s, OP_ALL, make_change, &c);
        if (r < 0) {
            fprintf(stderr, "process %d: change %llu: %s\n", p, (unsigned long long)c.n,
                    strerror(-r));
            return 3;
        }
        keep_order();
        put(&journal->done[p], c.n);
        atomic_fetch_add(&journal->changes, 1);
    }
}

/* ---- the supervisor ---- */

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("not ok 1 - random kills of shared objects: ");
    vprintf(fmt, ap);
    printf(" (seed %llu)\n1..1\n", (unsigned long long)seed);
    va_end(ap);
    child_kill_all();
    exit(1);
}

static void start(int p) {
    if (slot_reserve(&segment, 0, &workers[p].slot, &workers[p].gen)) {
        die("no slot");
    }
    workers[p].pid = child_start(work, (void *)(intptr_t)p);
    if (workers[p].pid < 0) {
        die("fork: %s", strerror((int)-workers[p].pid));
    }
}

static void bury(int p) {
    const struct task_outcome lost = {.state = TASK_LOST, .cause = CAUSE_SIGNAL};
    uint64_t until = clock_now() + 5 * NS_PER_SEC;
    uint32_t idx;
    while (slot_bury(&segment, workers[p].slot, workers[p].gen) ||
           task_reap(&segment, workers[p].slot, workers[p].gen, &lost, &idx) < 0) {
        if (clock_now() > until) {
            die("a burial does not succeed");
        }
    }
    slot_release(&segment, workers[p].slot, workers[p].gen);
}

static void slay(int p) {
    kill(workers[p].pid, SIGKILL);
    int status = child_wait(workers[p].pid);
    if (status != CHILD_SIGNALLED + SIGKILL) {
        die("process %d ended by itself, status %d", p, status);
    }
}

/* ---- judging: nobody is alive ---- */

static int check_process(struct shm *s, int p) {
    char buf[32], digits[24], want[4096], field[32];
    struct key_name k = name(s, buf, "counter", p);
    struct task_bytes v;
    uint64_t done = get(&journal->done[p]), doing = get(&journal->doing[p]), n = 0;
    int r = value_get(s, &k, digits, &v);
    if (r == 0 && num_u64(v.data, v.len, &n)) {
        die("counter of %d is no number", p);
    }
    if (n != done && n != doing) {
        die("counter of %d is %llu, changes %llu to %llu", p, (unsigned long long)n,
            (unsigned long long)done, (unsigned long long)doing);
    }
    put(&journal->done[p], n); /* from here on it is known */
    struct dict d;
    k = name(s, buf, "shared", -1);
    for (uint64_t i = n; n && i > 0 && i + FIELDS > n; i--) {
        size_t len = content(want, i);
        int fl = snprintf(field, sizeof(field), "%d.%u", p, (unsigned)(i % FIELDS));
        r = dict_open(s, &k, false, &d);
        r = r ? r : dict_get(s, &d, field, (size_t)fl, &v);
        if (r || v.len != len || memcmp(v.data, want, len) != 0) {
            die("field %s is not that of change %llu", field, (unsigned long long)i);
        }
    }
    struct list_object l;
    k = name(s, buf, "log", p);
    uint64_t kept = n < KEPT ? n : KEPT;
    r = n ? list_open(s, &k, false, &l) : 0;
    if (r || (n && list_count(&l) != kept)) {
        die("log of %d has not %llu entries", p, (unsigned long long)kept);
    }
    for (uint64_t i = 0; i < kept; i++) {
        size_t len = content(want, n - kept + 1 + i);
        r = list_at(s, &l, i, &v);
        if (r || v.len != len || memcmp(v.data, want, len) != 0) {
            die("entry %llu of the log of %d is wrong", (unsigned long long)i, p);
        }
    }
    char twin[24];
    struct task_bytes w;
    k = name(s, buf, "pair", p);
    r = n ? value_get(s, &k, digits, &v) : 0;
    k = name(s, buf, "twin", p);
    r = r || !n ? r : value_get(s, &k, twin, &w);
    if (r || (n && (v.len != w.len || memcmp(v.data, w.data, v.len) != 0))) {
        die("pair and twin of %d differ", p);
    }
    return 0;
}

static int mark_token(void *arg, uint64_t index, const void *data, size_t len) {
    uint8_t *seen = arg;
    uint64_t n;
    (void)index;
    if (num_u64((const char *)data + 6, len - 6, &n) || n >= TOKENS || seen[n]++) {
        die("a token is damaged or there twice");
    }
    return 0;
}

static int check_all(struct shm *s, void *arg) {
    uint8_t seen[TOKENS] = {0};
    char buf[32];
    (void)arg;
    for (int p = 0; p < PROCESSES; p++) {
        check_process(s, p);
    }
    for (int side = 0; side < 2; side++) {
        struct key_name k = name(s, buf, side ? "left" : "right", -1);
        struct list_object l;
        if (list_open(s, &k, false, &l) == 0) {
            list_walk(s, &l, 0, false, mark_token, seen);
        }
    }
    for (int i = 0; i < TOKENS; i++) {
        if (!seen[i]) {
            die("token %d is lost", i);
        }
    }
    return 0;
}

static void judge(void) {
    struct shm_report report;
    if (shm_check(&segment, &report) || report.errors) {
        die("check: %s", report.first);
    }
    int r = op_run(&segment, OP_ALL, check_all, NULL);
    if (r) {
        die("cannot look: %s", strerror(-r));
    }
}

static int put_tokens(struct shm *s, void *arg) {
    char buf[32], token[32];
    struct key_name k = name(s, buf, "left", -1);
    struct list_object l;
    (void)arg;
    int r = list_open(s, &k, true, &l);
    for (int i = 0; r == 0 && i < TOKENS; i++) {
        int n = snprintf(token, sizeof(token), "token %d", i);
        r = list_push(s, &l, false, token, (size_t)n);
    }
    return r ? r : list_close(s, &l);
}

static int flush_shard(struct shm *s, void *arg) {
    return keys_flush_some(s, *(unsigned *)arg, 1000);
}

static void remove_everything(void) {
    struct shm_report report;
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        while (op_run(&segment, UINT64_C(1) << i, flush_shard, &i) == 1) {
        }
        while (op_tidy(&segment, i) == 1) {
        }
    }
    alloc_take_back(&segment, &segment.mine->undo_more);
    segment.tx_room = SHM_UNDO;
    if (shm_check(&segment, &report) || report.errors || report.blocks) {
        die("%llu blocks are left at the end; %s", (unsigned long long)report.blocks, report.first);
    }
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    uint64_t v;
    return text && num_u64(text, strlen(text), &v) == 0 ? v : otherwise;
}

int main(void) {
    uint64_t kills = number_from("HEARTH_KILLS", 2000), killed = 0, several = 0;
    seed = number_from("HEARTH_SEED", clock_wall_ms()) * 2654435761u + 1;
    uint64_t began = clock_now();
    journal =
        mmap(NULL, sizeof(*journal), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(journal != MAP_FAILED);
    uint32_t slot, gen;
    if (shm_create(&segment, &(struct shm_params){.size = 16 << 20, .slots = 16, .tasks = 64}) ||
        slot_reserve(&segment, 0, &slot, &gen) || slot_attach(&segment, slot, gen)) {
        die("no segment");
    }
    if (op_run(&segment, OP_ALL, put_tokens, NULL)) {
        die("no tokens");
    }
    while (killed < kills) {
        for (int p = 0; p < PROCESSES; p++) {
            start(p);
        }
        /* one after the other or several at once, until none is left; the living meet the locks of the dead */
        for (unsigned alive = (1u << PROCESSES) - 1; alive;) {
            usleep((useconds_t)rnd(rnd(8) ? 600 : 5000));
            unsigned victims = 1u << rnd(PROCESSES);
            if (rnd(6) == 0) {
                victims |= 1u << rnd(PROCESSES) | 1u << rnd(PROCESSES);
            }
            victims &= alive;
            several += (victims & (victims - 1)) != 0;
            for (int p = 0; p < PROCESSES; p++) {
                if (victims >> p & 1) {
                    slay(p);
                    killed++;
                }
            }
            for (int p = 0; p < PROCESSES; p++) {
                if (victims >> p & 1) {
                    bury(p);
                }
            }
            alive &= ~victims;
        }
        judge();
    }
    uint64_t changes = get(&journal->changes);
    remove_everything();
    shm_detach(&segment);
    printf("ok 1 - %llu kills (%llu times several at once), %llu changes committed: 0 lost, 0 half "
           "made, "
           "0 leaked, 0 stuck; %.1f s\n1..1\n",
           (unsigned long long)killed, (unsigned long long)several, (unsigned long long)changes,
           (double)(clock_now() - began) / 1e9);
    return 0;
}
