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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/shm/internal.h"
#include "tests/support/child.h"

const uint64_t step_size = 1 << 20;

enum { MAX_STEPS = 2000000, STORE_LIMIT_MS = 60000 };

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
    if (shm_check(s, &report) || report.errors) {
        fprintf(stderr, "# %s\n", report.first);
        return "check after recovery";
    }
    const char *bad = release_waiting(s);
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

struct run {
    const struct step_case *c;
    struct shm live;
    void *copy, *before;
    uint32_t victim;
    uint64_t steps, judged;
    uint64_t open; /* judged copies with a transaction under way */
};

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
    if (r->c->keep && get(&s.slots[r->victim].undo_count)) {
        r->open++;
        uint32_t n = *r->c->n_kept;
        /* a reservoir whose places are spread over the run */
        if (n < r->c->n_keep) {
            r->c->keep[n] = malloc(step_size);
            assert(r->c->keep[n]);
            *r->c->n_kept = n + 1;
        } else {
            n = r->open % 7 == 0 ? (uint32_t)(r->open / 7 % r->c->n_keep) : UINT32_MAX;
        }
        if (n != UINT32_MAX) {
            memcpy(r->c->keep[n], r->copy, step_size);
        }
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

bool step_run(const struct step_case *c, unsigned number) {
    struct run r = {.c = c, .victim = c->victim ? c->victim : STEP_VICTIM};
    void *base = step_new_segment();
    if (c->image) {
        memcpy(base, c->image, step_size);
    }
    r.live = step_handle(base, STEP_SUPERVISOR);
    r.copy = shared_memory(step_size);
    r.before = shared_memory(step_size);
    if (c->setup) {
        c->setup(&r.live);
    }
    struct victim v = {.c = c, .base = base, .slot = r.victim};
    const char *bad = run_victim(&r, &v);
    munmap(base, step_size);
    munmap(r.copy, step_size);
    munmap(r.before, step_size);
    printf("%sok %u - %s (%llu %s, %llu states judged)%s%s\n", bad ? "not " : "", number, c->name,
           (unsigned long long)r.steps, by_instructions(c) ? "instructions" : "stores",
           (unsigned long long)r.judged, bad ? ": " : "", bad ? bad : "");
    fflush(stdout);
    return !bad && r.judged > 1;
}
