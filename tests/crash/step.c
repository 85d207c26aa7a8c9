/* SPDX-License-Identifier: MIT */
/* The stepper. The segment lies in anonymous shared memory, so that parent and child see the same and a copy is one memcpy. Only
 * steps that changed the segment are judged: the others leave the same copy behind.
 *
 * So only instructions that store to the segment need to be stepped, and on x86-64 only those are: the victim sees the segment
 * read-only. A store faults; the handler lets it through with the trap flag set, and the trap behind that one instruction (of a
 * repeated one, behind each round) shuts the segment again and waits for the parent's judgement. That visits the very states
 * that stepping through every instruction visits, in a thirtieth of the time; tests compare the two. HEARTH_STEP=instructions,
 * and any other machine, takes ptrace and each instruction.
 *
 * Fails: prints "not ok" with the step and the reason; asserts on errors of its own system calls. */
#include "tests/crash/step.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/op.h"
#include "tests/support/child.h"

const uint64_t step_size = 1 << 20;

enum { MAX_STEPS = 2000000, STORE_LIMIT_MS = 60000, TIDY_MAX = 100000, KEYS_AT_ONCE = 1000 };

static void *shared_memory(uint64_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(p != MAP_FAILED);
    return p;
}

struct shm step_handle(void *base, uint32_t slot) {
    struct shm s;
    int r = shm_view(&s, base, step_size);
    assert(r == 0);
    s.patience_ns = 0;
    s.slot = slot;
    s.mine = &s.slots[slot];
    s.me = owner_word(slot, get32(&s.mine->gen));
    return s;
}

struct shm step_foresee(const struct shm *s, uint32_t slot) {
    static void *copy;
    copy = copy ? copy : shared_memory(step_size);
    memcpy(copy, s->base, step_size);
    return step_handle(copy, slot);
}

void step_mark_dead(struct shm *s, uint32_t slot) {
    _Atomic uint32_t *life = (void *)&s->slots[slot].life;
    *life |= FUTEX_OWNER_DIED;
}

const char *step_recover(struct shm *s, uint32_t slot) {
    const struct task_outcome lost = {.state = TASK_LOST, .cause = CAUSE_SIGNAL, .signal = SIGKILL};
    uint32_t gen = get32(&s->slots[slot].gen), idx;
    if (slot_bury(s, slot, gen)) {
        return "slot_bury says busy";
    }
    if (task_reap(s, slot, gen, &lost, &idx) < 0) {
        return "task_reap failed";
    }
    slot_release(s, slot, gen);
    return NULL;
}

const char *step_check(struct shm *s, const char *when, uint64_t *ret_blocks) {
    struct shm_report report;
    if (shm_check(s, &report) || report.errors) {
        fprintf(stderr, "# %s\n", report.first);
        return when;
    }
    if (ret_blocks) {
        *ret_blocks = report.blocks;
    }
    return NULL;
}

const char *step_tidy(struct shm *s) {
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        int r, n = 0;
        while ((r = op_tidy(s, i)) == 1 && n < TIDY_MAX) {
            n++;
        }
        if (r) {
            return "a shard cannot be tidied";
        }
    }
    return NULL;
}

const char *step_check_end(struct shm *s) {
    uint64_t blocks = 0;
    const char *bad = step_tidy(s);
    /* the larger log this process may have needed is its own */
    if (!bad && alloc_take_back(s, &s->mine->undo_more)) {
        bad = "the larger log cannot be given back";
    }
    s->tx_room = SHM_UNDO;
    bad = bad ? bad : step_check(s, "check after everything was removed", &blocks);
    return bad || blocks == 1 ? bad : "a block is lost"; /* the one is the ring of the pool */
}

static int flush_some(struct shm *s, void *shard) {
    return keys_flush_some(s, *(const unsigned *)shard, KEYS_AT_ONCE);
}

const char *step_remove_all(struct shm *s) {
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        int r;
        do {
            r = op_run(s, UINT64_C(1) << i, flush_some, &i);
        } while (r == 1);
        if (r) {
            return "keys cannot be removed";
        }
    }
    return step_check_end(s);
}

static const char *free_ended(struct shm *s, struct step_counts *n) {
    uint32_t idx = 0, from = 0;
    while (task_sweep(s, from, UINT32_MAX, &idx) == 0) {
        struct task_view v;
        if (task_view(s, idx, &v)) {
            return "an ended task cannot be read";
        }
        n->state[v.state]++;
        bool expect = v.state == TASK_DONE && v.output.len;
        for (size_t i = 0; expect && i < v.output.len; i++) {
            if (((const char *)v.output.data)[i] != (char)('a' + i % 26)) {
                n->bad_output++;
                expect = false;
            }
        }
        if (task_free(s, idx, v.id)) {
            return "task_free failed";
        }
        from = idx + 1;
    }
    return NULL;
}

/* What the daemon's successor does. */
static const char *release_waiting(struct shm *s) {
    uint32_t idx = 0, from = 0;
    for (; task_sweep_waiting(s, from, UINT32_MAX, &idx) == 0; from = idx + 1) {
        struct task_view v;
        if (task_view(s, idx, &v) ||
            (task_release(s, idx, v.id, true) && task_release(s, idx, v.id, false))) {
            return "a waiting task cannot be released";
        }
    }
    return NULL;
}

const char *step_settle(struct shm *s, struct step_counts *ret) {
    struct step_counts n = {0};
    struct task_ref t;
    struct shm_report report;
    struct shm worker = step_handle(s->base, STEP_SLOTS - 1);
    const char *bad = step_check(s, "check after recovery", NULL);
    bad = bad ? bad : release_waiting(s);
    if (bad) {
        return bad;
    }
    while (task_claim(&worker, STEP_POOL, &t) == 0) {
        struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT};
        if (task_finish(&worker, &t, &o) || ++n.done_by_us > 1000) {
            return "a queued task cannot be run";
        }
    }
    bad = free_ended(s, &n);
    if (bad) {
        return bad;
    }
    if (shm_check(s, &report) || report.errors) {
        fprintf(stderr, "# %s\n", report.first);
        return "check after everything was freed";
    }
    if (report.tasks[TASK_FREE] != s->n_tasks) {
        return "a task record is lost";
    }
    if (report.blocks != 1) {
        return "a block is lost"; /* the one is the ring of the pool */
    }
    *ret = n;
    return NULL;
}

void *step_new_segment(void) {
    struct shm s;
    int r =
        shm_create(&s, &(struct shm_params){.size = step_size, .slots = STEP_SLOTS, .tasks = 64});
    assert(r == 0);
    void *base = shared_memory(step_size);
    memcpy(base, s.base, step_size);
    shm_detach(&s);
    struct shm view = step_handle(base, STEP_SUPERVISOR);
    for (uint32_t i = 0; i < STEP_SLOTS; i++) {
        uint32_t slot, gen;
        r = slot_reserve(&view, STEP_POOL, &slot, &gen);
        assert(r == 0 && slot == i);
    }
    view = step_handle(base, STEP_SUPERVISOR);
    r = shm_pool_create(&view, STEP_POOL, "pool", 16);
    assert(r == 0);
    return base;
}

struct victim {
    const struct step_case *c;
    void *base;
    uint32_t slot;
    int say, hear; /* to the parent, from it; -1: it is traced */
};

/* ---- the victim, store by store ---- */

enum { STORED = 's', ENDED = 'e' };

#ifdef __x86_64__
enum { TRAP_FLAG = 0x100 };

static const struct victim *self;

static void shut_segment(bool shut) {
    int r = mprotect(self->base, step_size, shut ? PROT_READ : PROT_READ | PROT_WRITE);
    assert(r == 0);
}

static void tell_parent(char what) {
    ssize_t n = write(self->say, &what, 1);
    assert(n == 1);
    n = read(self->hear, &what, 1);
    assert(n == 1);
}

static void on_store(int sig, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    uintptr_t at = (uintptr_t)info->si_addr - (uintptr_t)self->base;
    if (at >= step_size) {
        signal(sig, SIG_DFL); /* a fault of another kind: once more, and to death */
        return;
    }
    shut_segment(false);
    u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_stored(int sig, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    (void)sig;
    (void)info;
    u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    shut_segment(true);
    tell_parent(STORED);
}

static void run_stores(const struct victim *v, struct shm *s) {
    struct sigaction store = {.sa_sigaction = on_store, .sa_flags = SA_SIGINFO};
    struct sigaction stored = {.sa_sigaction = on_stored, .sa_flags = SA_SIGINFO};
    self = v;
    int r = sigaction(SIGSEGV, &store, NULL) || sigaction(SIGTRAP, &stored, NULL);
    assert(r == 0);
    shut_segment(true);
    tell_parent(STORED);
    v->c->op(s);
    tell_parent(ENDED);
}
#else
static void run_stores(const struct victim *v, struct shm *s) {
    (void)v;
    (void)s;
}
#endif

static bool by_instructions(const struct step_case *c) {
#ifdef __x86_64__
    const char *how = getenv("HEARTH_STEP");
    return c->instructions || (how && strcmp(how, "instructions") == 0);
#else
    (void)c;
    return true;
#endif
}

static int victim_main(void *arg) {
    const struct victim *v = arg;
    struct shm s = step_handle(v->base, v->slot);
    s.patience_ns = 5 * NS_PER_SEC;
    if (v->c->prepare) {
        v->c->prepare(&s);
    }
    if (v->say >= 0) {
        run_stores(v, &s);
        return 0;
    }
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    v->c->op(&s);
    raise(SIGSTOP);
    return 0;
}

/* ---- the parent ---- */

enum { RESCUES_MAX = 12 };

struct run {
    const struct step_case *c;
    struct shm live;
    void *copy, *before;
    uint32_t victim;
    uint64_t steps, judged;
    uint64_t open;           /* judged copies with a transaction under way */
    void *kept[RESCUES_MAX]; /* some of them */
    uint32_t n_kept;
};

/* A reservoir whose places are spread over the run. */
static void keep_copy(struct run *r) {
    uint32_t n = r->n_kept;
    r->open++;
    if (n < r->c->rescues) {
        r->kept[n] = malloc(step_size);
        assert(r->kept[n]);
        r->n_kept++;
    } else if (r->open % 7 == 0) {
        n = (uint32_t)(r->open / 7 % r->c->rescues);
    } else {
        return;
    }
    memcpy(r->kept[n], r->copy, step_size);
}

static void add_to_sum(const void *state, uint64_t *sum) {
    const uint64_t *words = state;
    for (uint64_t i = 0; i < step_size / sizeof(*words); i++) {
        *sum = (*sum ^ words[i]) * UINT64_C(0x100000001b3);
    }
}

static const char *judge(struct run *r, bool finished) {
    memcpy(r->before, r->live.base, step_size);
    memcpy(r->copy, r->live.base, step_size);
    struct shm s = step_handle(r->copy, STEP_SUPERVISOR);
    step_mark_dead(&s, r->victim);
    if (r->c->rescues && get(&s.slots[r->victim].undo_count)) {
        keep_copy(r);
    }
    r->judged++;
    if (r->c->ret_sum) {
        add_to_sum(r->before, r->c->ret_sum);
    }
    return r->c->verify(&s, finished);
}

static const char *step_through(struct run *r, pid_t pid) {
    int status;
    pid_t got = waitpid(pid, &status, 0);
    assert(got == pid && WIFSTOPPED(status));
    const char *bad = judge(r, false);
    while (!bad) {
        if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, &status, 0) != pid) {
            return "ptrace failed";
        }
        if (!WIFSTOPPED(status)) {
            return "the victim ended by itself";
        }
        if (WSTOPSIG(status) == SIGSTOP) {
            return judge(r, true);
        }
        if (WSTOPSIG(status) != SIGTRAP) {
            return strsignal(WSTOPSIG(status));
        }
        if (++r->steps > MAX_STEPS) {
            return "the operation does not end";
        }
        if (memcmp(r->before, r->live.base, step_size) != 0) {
            bad = judge(r, false);
        }
    }
    return bad;
}

static const char *follow_stores(struct run *r, int hear, int say) {
    struct pollfd p = {.fd = hear, .events = POLLIN};
    const char *bad = NULL;
    for (char what; !bad;) {
        if (poll(&p, 1, STORE_LIMIT_MS) != 1 || ++r->steps > MAX_STEPS) {
            return "the operation does not end";
        }
        if (read(hear, &what, 1) != 1) {
            return "the victim ended by itself";
        }
        if (what == ENDED) {
            return judge(r, true);
        }
        if (r->judged == 0 || memcmp(r->before, r->live.base, step_size) != 0) {
            bad = judge(r, false);
        }
        if (write(say, &what, 1) != 1) {
            return "the victim ended by itself";
        }
    }
    return bad;
}

static const char *run_victim(struct run *r, struct victim *v) {
    _cleanup_close_ int hear = -1, say = -1, his_say = -1, his_hear = -1;
    if (!by_instructions(r->c)) {
        int up[2], down[2];
        int e = pipe2(up, O_CLOEXEC) || pipe2(down, O_CLOEXEC);
        assert(e == 0);
        hear = up[0];
        his_say = up[1];
        his_hear = down[0];
        say = down[1];
    }
    v->say = his_say;
    v->hear = his_hear;
    pid_t pid = child_start(victim_main, v);
    assert(pid > 0);
    if (hear >= 0) {
        close(his_say);
        his_say = -1; /* so that its end is heard */
    }
    const char *bad = hear < 0 ? step_through(r, pid) : follow_stores(r, hear, say);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return bad;
}

/* ---- what is told ---- */

static unsigned lines;
static bool failed;

static void tell(const char *bad, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(const char *bad, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    failed |= bad != NULL;
    printf("%sok %u - ", bad ? "not " : "", ++lines);
    vprintf(fmt, ap);
    printf("%s%s\n", bad ? ": " : "", bad ? bad : "");
    fflush(stdout);
    va_end(ap);
}

void step_line(const char *name, const char *bad) {
    tell(bad, "%s", name);
}

int step_end(void) {
    printf("1..%u\n", lines);
    return failed || !lines;
}

/* ---- a case ---- */

static void run_case(struct run *r) {
    const struct step_case *c = r->c;
    void *base = step_new_segment();
    assert(c->rescues <= RESCUES_MAX);
    r->victim = c->victim ? c->victim : STEP_VICTIM;
    if (c->image) {
        memcpy(base, c->image, step_size);
    }
    r->live = step_handle(base, STEP_SUPERVISOR);
    r->copy = shared_memory(step_size);
    r->before = shared_memory(step_size);
    if (c->setup) {
        c->setup(&r->live);
    }
    struct victim v = {.c = c, .base = base, .slot = r->victim};
    const char *bad = run_victim(r, &v);
    bad = bad || r->judged > 1 ? bad : "it changes nothing";
    munmap(base, step_size);
    munmap(r->copy, step_size);
    munmap(r->before, step_size);
    tell(bad, "%s (%llu %s, %llu states judged)", c->name, (unsigned long long)r->steps,
         by_instructions(c) ? "instructions" : "stores", (unsigned long long)r->judged);
}

/* Of which case somebody dies in the rescue. */
static const struct step_case *rescued;

static uint32_t rescuer(void) {
    return rescued->rescuer ? rescued->rescuer : STEP_OTHER;
}

static void rescue(struct shm *s) {
    const char *bad = step_recover(s, rescued->victim ? rescued->victim : STEP_VICTIM);
    assert(!bad);
}

/* However far the rescue came: the victim had not finished. */
static const char *verify_rescued(struct shm *s, bool finished) {
    (void)finished;
    const char *bad = step_recover(s, rescuer());
    return bad ? bad : rescued->verify(s, false);
}

uint32_t step_run(const struct step_case *c) {
    struct run r = {.c = c};
    run_case(&r);
    rescued = c;
    for (uint32_t i = 0; i < r.n_kept; i++) {
        char name[128];
        snprintf(name, sizeof(name), "rescue %u of: %s", i, c->name);
        struct step_case again = {.name = name,
                                  .op = rescue,
                                  .verify = verify_rescued,
                                  .victim = rescuer(),
                                  .image = r.kept[i]};
        run_case(&(struct run){.c = &again});
        free(r.kept[i]);
    }
    return r.n_kept;
}
