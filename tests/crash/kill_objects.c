/* SPDX-License-Identifier: MIT */
/* Random death on shared objects (DESIGN section 4.2): processes change dicts, lists, values and several of them at once
 * while the supervisor kills them, buries them and starts others in their place.
 *
 * Five of them change keys of their own, each after a model of them in memory that the segment knows nothing of: the change
 * is made on a copy of the model, then on the segment, then the copy becomes the model by one store. So whoever dies, its keys
 * must be as the model says, or, if it died between, as the copy says; what was committed may not be lost (kill_model.h). They
 * also add to counters that all share (field p of `shares` is exact, their sum is `total`) and move tokens from one list to
 * another. Two more sleep in blocking pops for those tokens, and put each back; a sixth removes expired keys and tidies.
 *
 * Between two changes they make, rename and remove keys of a manager, which the supervisor ends under their hands, and opens
 * another. What a manager counts as its keys is what is there, whoever died; of one that has ended nobody sees anything, and after
 * a pass of the sweep nothing is left.
 *
 * Every other one's keys, and those that all share, are durable: what is noted of their changes (lib/shm/dirty.h) is taken and cleared
 * by who sweeps, who is killed in it too.
 *
 * Stuck means: a change that does not get its locks in 20 s; a sleeper that oversleeps its limit by 5 s; tokens that lie in
 * the queue while somebody sleeps for them and nobody who was to wake him is alive.
 * After each round everything is compared, the segment is checked block by block, and at the end nothing may be left.
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
#include "lib/shm/dirty.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/manager.h"
#include "lib/shm/objects.h"
#include "lib/shm/op.h"
#include "lib/shm/slot.h"
#include "lib/shm/task.h"
#include "tests/crash/kill_model.h"
#include "tests/support/child.h"

enum {
    CHANGERS = MODEL_PROCESSES,
    SWEEPER = CHANGERS,
    SLEEPERS = 2,
    PROCESSES = CHANGERS + 1 + SLEEPERS,
    TOKENS = 12,
    FIRST_TOKEN = 1000, /* their contents' numbers */
    KINDS_MAX = 64,
    OWNED = 6, /* names of a manager's keys */
};
#define LONG_SLEEP_MS 20000
#define OVERSLEPT     (5 * NS_PER_SEC)
#define PATIENCE      (20 * NS_PER_SEC)

/* What a sleeper is at: the token, and one of these. */
enum { POPPING, HOLDING, PUSHING };

struct journal {
    /* 2 n: models[n & 1] holds; 2 n + 1: a change is in hand, and if it is made, models[(n + 1) & 1] holds */
    struct changer {
        _Atomic uint64_t state;
        _Atomic uint64_t kind;
        struct model models[2];
    } changers[CHANGERS];
    _Atomic uint64_t hands[SLEEPERS]; /* token << 2 | what it is at */
    _Atomic uint64_t done[KINDS_MAX], slept, longest_ns, overslept_ns, swept, noted;
    _Atomic uint64_t manager;     /* the one that is open, or has just ended */
    _Atomic uint64_t owned, late; /* changes to keys of managers; those that came too late */
};

static struct journal *journal;
static struct shm segment;
static struct objects objects; /* the supervisor's */
static char name_bytes[CHANGERS][MODEL_NAMES][MODEL_NAME];
static struct task_bytes names[CHANGERS][MODEL_NAMES];
static struct worker {
    pid_t pid;
    uint32_t slot, gen;
} workers[PROCESSES];
static uint64_t seed, first_seed;

static uint64_t rnd(uint64_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

static uint32_t n_kinds(void) {
    return n_value_kinds + n_dict_kinds + n_list_kinds;
}

static const struct change_kind *kind_at(uint32_t i) {
    if (i < n_value_kinds) {
        return &value_kinds[i];
    }
    i -= n_value_kinds;
    return i < n_dict_kinds ? &dict_kinds[i] : &list_kinds[i - n_dict_kinds];
}

static void note_longest(_Atomic uint64_t *longest, uint64_t ns) {
    if (ns > get(longest)) {
        put(longest, ns);
    }
}

/* ---- those who change ---- */

static bool make_change(struct objects *o, int p, struct change *c) {
    struct changer *j = &journal->changers[p];
    uint64_t n = get(&j->state) / 2;
    const struct model *before = &j->models[n & 1];
    struct model *after = &j->models[(n + 1) & 1];
    c->kind = (uint32_t)change_random(c, n_kinds());
    c->id = (uint32_t)(n % 50000000 * 32 + 1 + change_random(c, 2));
    c->b = (uint64_t)p;
    const struct change_kind *kind = kind_at(c->kind);
    *after = *before;
    kind->plan(after, c);
    put(&j->kind, c->kind);
    keep_order();
    put(&j->state, 2 * n + 1);
    keep_order();
    uint64_t began = clock_now();
    bool fine = kind->run(o, names[p], c, before, after);
    note_longest(&journal->longest_ns, clock_now() - began);
    if (!fine) {
        fprintf(stderr, "# process %d, change %llu (%s): gave %lld\n", p, (unsigned long long)n,
                kind->name, (long long)c->r);
        return false;
    }
    keep_order();
    put(&j->state, 2 * (n + 1));
    atomic_fetch_add(&journal->done[c->kind], 1);
    return true;
}

/* ---- keys of a manager, which are everybody's ---- */

static struct task_bytes owned_name(uint64_t id, uint64_t i, char buf[32]) {
    manager_prefix(id, buf);
    buf[MANAGER_PREFIX] = (char)('a' + i);
    return (struct task_bytes){buf, MANAGER_PREFIX + 1};
}

static int64_t change_owned(struct objects *o, uint64_t id, struct change *c) {
    char one[32], two[32], content[CONTENT_MAX];
    struct task_bytes name = owned_name(id, change_random(c, OWNED), one);
    struct task_bytes other = owned_name(id, change_random(c, OWNED), two);
    struct task_bytes b = content_of((uint32_t)(1 + change_random(c, 1000)), content);
    switch (change_random(c, 8)) {
    case 0:
        return objects_value_set(o, name, b, OBJECTS_ALWAYS, change_random(c, 2) * 3);
    case 1:
        return objects_dict_set(o, name, b, b);
    case 2:
        return objects_list_push(o, name, OBJECTS_RIGHT, &b, 1);
    case 3:
        return objects_rename(o, name, other, change_random(c, 2));
    case 4:
        return objects_copy(o, name, other, change_random(c, 2));
    case 5:
        return objects_list_pop(o, name, OBJECTS_LEFT, &b);
    default:
        return objects_delete(o, &name, 1);
    }
}

static bool make_owned(struct objects *o, struct change *c) {
    int64_t r = change_owned(o, get(&journal->manager), c);
    atomic_fetch_add(r == -EIDRM ? &journal->late : &journal->owned, 1);
    if (r < 0 && r != -EIDRM && r != -ENOENT && r != -EEXIST && r != -EPROTOTYPE) {
        fprintf(stderr, "# a key of a manager: %s\n", strerror((int)-r));
        return false;
    }
    return true;
}

static int change(struct objects *o, int p) {
    struct change c = {.random = first_seed + get(&journal->changers[p].state) * 97 + (uint64_t)p};
    while (make_change(o, p, &c) && make_owned(o, &c)) {
        c = (struct change){.random = c.random};
    }
    return 3;
}

/* ---- the one who sweeps ---- */

struct sweep {
    unsigned shard;
    uint64_t cursor;
};

static int sweep_shard(struct shm *s, void *arg) {
    struct sweep *w = arg;
    return keys_expire_some(s, w->shard, clock_wall_ms(), &w->cursor, 16);
}

/* As the daemon does it: keys that have run out, and what deletions have left. */
static int sweep_once(struct shm *s, unsigned shard) {
    struct sweep w = {.shard = shard};
    int r = op_run(s, UINT64_C(1) << shard, sweep_shard, &w);
    if (r >= 0) {
        atomic_fetch_add(&journal->swept, (uint64_t)r);
    }
    while (r >= 0 && (r = op_tidy(s, shard)) == 1) {
    }
    return r;
}

static void begin_noted(void *arg) {
    *(uint64_t *)arg = 0;
}

static int meet_noted(void *arg, struct shm *s, const struct dirty *d) {
    (void)s;
    *(uint64_t *)arg += dirty_is_durable(&d->name);
    return 0;
}

static int take_noted(struct shm *s) {
    uint64_t n = 0;
    int r = dirty_take(s, dirty_shards(s), begin_noted, meet_noted, &n);
    if (r < 0 || (uint64_t)r != n) {
        return r < 0 ? r : -EBADMSG;
    }
    atomic_fetch_add(&journal->noted, n);
    for (unsigned i = 0; r >= 0 && i < SHM_SHARDS; i++) {
        while ((r = dirty_clear(s, i)) == 1) {
        }
    }
    return r;
}

static int sweep(struct objects *o) {
    for (;;) {
        int e = take_noted(o->shm);
        if (e < 0) {
            fprintf(stderr, "# taking what is noted: %s\n", strerror(-e));
            return 3;
        }
        for (unsigned i = 0; i < SHM_SHARDS; i++) {
            int r = sweep_once(o->shm, i);
            if (r < 0) {
                fprintf(stderr, "# sweeping: %s\n", strerror(-r));
                return 3;
            }
        }
        usleep(300);
    }
}

/* ---- those who sleep ---- */

static int sleep_for_tokens(struct objects *o, int me) {
    _Atomic uint64_t *hand = &journal->hands[me];
    uint64_t random = first_seed + (uint64_t)getpid();
    for (;;) {
        struct task_bytes b;
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int64_t ms = random >> 62 ? LONG_SLEEP_MS : (int64_t)(random >> 40) % 20;
        put(hand, POPPING);
        keep_order();
        uint64_t began = clock_now();
        int r = objects_list_pop_wait(o, names[0][NAME_QUEUE], OBJECTS_LEFT, ms, &b);
        uint64_t took = clock_now() - began, limit = (uint64_t)ms * NS_PER_MS;
        note_longest(&journal->overslept_ns, took > limit ? took - limit : 0);
        if (r == -ETIMEDOUT && took < limit + OVERSLEPT) {
            continue;
        }
        uint32_t token = r ? 0 : content_id(b);
        if (!token) {
            fprintf(stderr, "# sleeper %d: %s after %llu ms of %lld\n", me, strerror(-r),
                    (unsigned long long)(took / NS_PER_MS), (long long)ms);
            return 3;
        }
        put(hand, (uint64_t)token << 2 | HOLDING);
        keep_order();
        atomic_fetch_add(&journal->slept, 1);
        keep_order();
        put(hand, (uint64_t)token << 2 | PUSHING);
        keep_order();
        if (objects_list_push(o, names[0][NAME_LEFT], OBJECTS_RIGHT, &b, 1) < 0) {
            return 3;
        }
        keep_order();
    }
}

static int work(void *arg) {
    int p = (int)(intptr_t)arg;
    struct shm s = segment;
    struct objects o;
    s.mine = NULL;
    s.tx_room = SHM_UNDO;
    s.patience_ns = PATIENCE;
    if (slot_attach(&s, workers[p].slot, workers[p].gen)) {
        return 2;
    }
    objects_init(&o, &s);
    return p < CHANGERS   ? change(&o, p)
           : p == SWEEPER ? sweep(&o)
                          : sleep_for_tokens(&o, p - SWEEPER - 1);
}

/* ---- the supervisor ---- */

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("not ok 1 - random kills of shared objects: ");
    vprintf(fmt, ap);
    printf(" (seed %llu)\n1..1\n", (unsigned long long)first_seed);
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

/* All die before any is buried: the living meet the locks of the dead. */
static uint64_t slay_all(unsigned victims) {
    uint64_t n = 0;
    for (int p = 0; p < PROCESSES; p++) {
        if (victims >> p & 1) {
            slay(p);
            n++;
        }
    }
    for (int p = 0; p < PROCESSES; p++) {
        if (victims >> p & 1) {
            bury(p);
        }
    }
    return n;
}

/* ---- judging ---- */

/* popitem takes any one field. */
static bool is_popped(struct model *before, const struct model *seen, uint64_t from, uint64_t to) {
    for (int i = 0; i < MODEL_FIELDS + MODEL_SUMS; i++) {
        bool sum = i >= MODEL_FIELDS;
        uint32_t *field = sum ? NULL : &before->dict.fields[i];
        int64_t *number = sum ? &before->dict.sums[i - MODEL_FIELDS] : NULL;
        uint32_t f = field ? *field : 0;
        int64_t n = number ? *number : 0;
        if (field && f) {
            *field = 0;
        } else if (number && n) {
            *number = 0;
        } else {
            continue;
        }
        if (!model_differs(seen, before, from, to)) {
            return true;
        }
        if (field) {
            *field = f;
        } else {
            *number = n;
        }
    }
    return false;
}

/* The keys of a dead process; from here on it is known what they hold. */
static int64_t judge_changer(int p) {
    static struct model seen;
    struct changer *j = &journal->changers[p];
    uint64_t state = get(&j->state), n = state / 2;
    struct model *before = &j->models[n & 1], *after = &j->models[(n + 1) & 1];
    uint64_t from = clock_wall_ms();
    const char *bad = model_observe(&objects, names[p], p, &seen);
    uint64_t to = clock_wall_ms();
    const struct change_kind *kind = kind_at((uint32_t)get(&j->kind));
    if (bad) {
        die("%s of process %d, change %llu (%s)", bad, p, (unsigned long long)n, kind->name);
    }
    bad = model_differs(&seen, before, from, to);
    if (bad && state % 2) {
        bad = model_differs(&seen, after, from, to);
        if (!bad) {
            put(&j->state, 2 * (n + 1));
        } else if (strcmp(kind->name, "any field popped") == 0 &&
                   is_popped(before, &seen, from, to)) {
            bad = NULL;
        }
    }
    if (bad) {
        die("%s of process %d is not as it should be, change %llu%s (%s)", bad, p,
            (unsigned long long)n, state % 2 ? " in hand" : "", kind->name);
    }
    put(&j->state, get(&j->state) & ~UINT64_C(1));
    return seen.shared;
}

static void judge_total(int64_t shares) {
    struct task_bytes b;
    int64_t total = 0;
    int r = objects_value_get(&objects, names[0][NAME_TOTAL], &b);
    if ((r && r != -ENOENT) || (r == 0 && num_i64(b.data, b.len, &total)) || total != shares) {
        die("the total is %lld, of shares %lld", (long long)total, (long long)shares);
    }
}

static void count_tokens(struct task_bytes list, uint8_t seen[TOKENS]) {
    const struct task_bytes *items;
    size_t n;
    if (objects_list_range(&objects, list, 0, -1, &items, &n)) {
        die("the tokens cannot be read");
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t t = content_id(items[i]) - FIRST_TOKEN;
        if (t >= TOKENS || seen[t]++) {
            die("a token is damaged, or there twice");
        }
    }
}

static void put_token(uint32_t t) {
    char buf[CONTENT_MAX];
    struct task_bytes b = content_of(FIRST_TOKEN + t, buf);
    if (objects_list_push(&objects, names[0][NAME_LEFT], OBJECTS_LEFT, &b, 1) < 0) {
        die("a token cannot be put");
    }
}

/* A token that is in no list was in the hand of a sleeper: one whose hand says so, or (once for each that died in a pop)
 * one that did not come to write it down. */
static void judge_tokens(void) {
    uint8_t seen[TOKENS] = {0};
    uint32_t popping = 0, missing = 0;
    count_tokens(names[0][NAME_LEFT], seen);
    count_tokens(names[0][NAME_QUEUE], seen);
    for (int i = 0; i < SLEEPERS; i++) {
        uint64_t hand = get(&journal->hands[i]);
        uint32_t t = (uint32_t)(hand >> 2) - FIRST_TOKEN;
        popping += (hand & 3) == POPPING;
        if ((hand & 3) == HOLDING && seen[t]) {
            die("a token that somebody holds is still there");
        }
        if ((hand & 3) != POPPING && !seen[t]) {
            put_token(t);
            seen[t] = 1;
        }
    }
    for (uint32_t t = 0; t < TOKENS; t++) {
        if (!seen[t]) {
            missing++;
            put_token(t);
        }
    }
    if (missing > popping) {
        die("%u tokens are lost", (unsigned)(missing - popping));
    }
}

/* How many names there are below '@', and below this manager. */
static uint64_t count_owned(uint64_t id, uint64_t *ret_all) {
    struct task_bytes pattern = {"@*", 2};
    const struct task_bytes *found;
    uint64_t cursor = 0, mine = 0;
    size_t n;
    *ret_all = 0;
    do {
        if (objects_keys(&objects, &cursor, 1000, &pattern, &found, &n)) {
            die("the names cannot be listed");
        }
        *ret_all += n;
        for (size_t i = 0; i < n; i++) {
            mine += manager_of(found[i].data, found[i].len) == id;
        }
    } while (cursor);
    return mine;
}

static void open_manager(void) {
    uint64_t id;
    if (manager_open(&segment, &id)) {
        die("no manager can be opened");
    }
    put(&journal->manager, id);
}

/* The expired keys and those of ended managers go. */
static void sweep_all(void) {
    struct manager_pass pass;
    manager_pass_begin(&segment, &pass);
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        struct sweep w = {.shard = i};
        do {
            if (op_run(&segment, UINT64_C(1) << i, sweep_shard, &w) < 0) {
                die("a shard cannot be swept");
            }
        } while (w.cursor);
    }
    if (manager_pass_end(&segment, &pass) || manager_over(&segment)) {
        die("keys of ended managers are left");
    }
}

/* A key that has expired since the sweep is counted and yet not seen: one that a second sweep leaves is an error. */
static void judge_managers(void) {
    uint64_t id = get(&journal->manager), mine = 0, all = 0;
    for (int i = 0; i < 10; i++) {
        sweep_all();
        mine = count_owned(id, &all);
        if (mine == all && mine == manager_keys(&segment, id)) {
            return;
        }
    }
    die("a manager counts %llu keys; there are %llu, and %llu of any",
        (unsigned long long)manager_keys(&segment, id), (unsigned long long)mine,
        (unsigned long long)all);
}

static void judge(void) {
    struct shm_report report;
    int64_t shares = 0;
    if (shm_check(&segment, &report) || report.errors) {
        die("check: %s", report.first);
    }
    for (int p = 0; p < CHANGERS; p++) {
        shares += judge_changer(p);
    }
    judge_total(shares);
    judge_tokens();
    judge_managers();
}

/* The changers are dead; a sleeper that lives empties the queue, whoever died before he woke it. */
static uint64_t see_them_wake(unsigned alive) {
    uint64_t began = clock_now();
    if (!(alive >> (SWEEPER + 1))) {
        return 0;
    }
    while (objects_list_length(&objects, names[0][NAME_QUEUE]) > 0) {
        if (clock_now() - began > OVERSLEPT) {
            die("somebody sleeps while there are tokens in the queue");
        }
        usleep(100);
    }
    return clock_now() - began;
}

static int flush_some(struct shm *s, void *arg) {
    return keys_flush_some(s, *(unsigned *)arg, 1000);
}

static void remove_everything(void) {
    struct shm_report report;
    dirty_look(&segment);
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        while (op_run(&segment, UINT64_C(1) << i, flush_some, &i) == 1) {
        }
        while (op_tidy(&segment, i) == 1) {
        }
    }
    while (dirty_shards(&segment)) {
        if (take_noted(&segment) < 0) {
            die("what is noted cannot be taken");
        }
    }
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
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

static void prepare(void) {
    journal =
        mmap(NULL, sizeof(*journal), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(journal != MAP_FAILED && n_kinds() <= KINDS_MAX);
    uint32_t slot, gen;
    if (shm_create(&segment, &(struct shm_params){.size = 64 << 20, .slots = 16, .tasks = 64}) ||
        slot_reserve(&segment, 0, &slot, &gen) || slot_attach(&segment, slot, gen)) {
        die("no segment");
    }
    segment.patience_ns = PATIENCE;
    objects_init(&objects, &segment);
    dirty_set_state(&segment, DIRTY_READY);
    for (int p = 0; p < CHANGERS; p++) {
        model_names(&segment, p, name_bytes[p], names[p]);
    }
    for (uint32_t t = 0; t < TOKENS; t++) {
        put_token(t);
    }
    open_manager();
}

/* One round: all are started, and die one after the other or several at once. Returns how often several did. */
static uint64_t run_round(uint64_t *killed, uint64_t *waited_ns) {
    const unsigned changers = (1u << CHANGERS) - 1;
    uint64_t several = 0;
    unsigned alive = (1u << PROCESSES) - 1;
    for (int p = 0; p < PROCESSES; p++) {
        start(p);
    }
    while (alive & changers) {
        usleep((useconds_t)rnd(rnd(8) ? 600 : 5000));
        unsigned victims = 1u << rnd(PROCESSES);
        if (rnd(6) == 0) {
            victims |= 1u << rnd(PROCESSES) | 1u << rnd(PROCESSES);
        }
        victims &= alive;
        several += (victims & (victims - 1)) != 0;
        *killed += slay_all(victims);
        alive &= ~victims;
        if (rnd(4) == 0) {
            if (manager_end(&segment, get(&journal->manager))) {
                die("a manager cannot be ended");
            }
            open_manager();
        }
    }
    uint64_t waited = see_them_wake(alive);
    *waited_ns = waited > *waited_ns ? waited : *waited_ns;
    *killed += slay_all(alive);
    judge();
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        if (sweep_once(&segment, i) < 0) {
            die("a shard cannot be tidied");
        }
    }
    return several;
}

int main(void) {
    uint64_t kills = number_from("HEARTH_KILLS", 2000), killed = 0, several = 0, waited = 0;
    uint64_t changes = 0, began = clock_now();
    first_seed = number_from("HEARTH_SEED", clock_wall_ms());
    seed = first_seed * 2654435761u + 1;
    prepare();
    while (killed < kills) {
        uint64_t before = killed / 10000;
        several += run_round(&killed, &waited);
        if (killed / 10000 > before) {
            fprintf(stderr, "# %llu kills\n", (unsigned long long)killed);
        }
    }
    for (uint32_t i = 0; i < n_kinds(); i++) {
        changes += get(&journal->done[i]);
        if (!get(&journal->done[i]) && kills >= 1000) {
            die("never made: %s", kind_at(i)->name);
        }
    }
    printf("# the longest change took %.1f ms, the queue was empty after %.1f ms at most, "
           "oversleeping %.1f ms at most; %llu tokens were slept for, %llu keys swept, %llu notes "
           "taken; %llu changes to keys of managers, %llu too late\n",
           (double)get(&journal->longest_ns) / 1e6, (double)waited / 1e6,
           (double)get(&journal->overslept_ns) / 1e6, (unsigned long long)get(&journal->slept),
           (unsigned long long)get(&journal->swept), (unsigned long long)get(&journal->noted),
           (unsigned long long)get(&journal->owned), (unsigned long long)get(&journal->late));
    remove_everything();
    objects_deinit(&objects);
    shm_detach(&segment);
    printf("ok 1 - %llu kills (%llu times several at once), %llu changes committed: 0 lost, 0 half "
           "made, 0 leaked, 0 stuck; %.1f s\n1..1\n",
           (unsigned long long)killed, (unsigned long long)several, (unsigned long long)changes,
           (double)(clock_now() - began) / 1e9);
    return 0;
}
