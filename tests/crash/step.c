/* SPDX-License-Identifier: MIT */
/* The single-stepper. The segment lies in anonymous shared memory, so that parent and child see the
 * same and a copy is one memcpy. Only steps that changed the segment are judged: the others leave
 * the same copy behind. Fails: prints "not ok" with the step and the reason; asserts on errors of
 * its own system calls. */
#include "tests/crash/step.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/shm/internal.h"
#include "tests/support/child.h"

const uint64_t step_size = 1 << 20;

enum { MAX_STEPS = 2000000 };

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

static void *new_segment(void) {
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
};

static int victim_main(void *arg) {
    const struct victim *v = arg;
    struct shm s = step_handle(v->base, v->slot);
    s.patience_ns = 5 * NS_PER_SEC;
    if (v->c->prepare) {
        v->c->prepare(&s);
    }
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    v->c->op(&s);
    raise(SIGSTOP);
    return 0;
}

struct run {
    const struct step_case *c;
    struct shm live;
    void *copy, *before;
    uint32_t victim;
    uint64_t steps, judged;
    uint64_t open; /* judged copies with a transaction under way */
};

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

bool step_run(const struct step_case *c, unsigned number) {
    struct run r = {.c = c, .victim = c->victim ? c->victim : STEP_VICTIM};
    void *base = new_segment();
    if (c->image) {
        memcpy(base, c->image, step_size);
    }
    r.live = step_handle(base, STEP_SUPERVISOR);
    r.copy = shared_memory(step_size);
    r.before = shared_memory(step_size);
    if (c->setup) {
        c->setup(&r.live);
    }
    struct victim v = {c, base, r.victim};
    pid_t pid = child_start(victim_main, &v);
    assert(pid > 0);
    const char *bad = step_through(&r, pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    munmap(base, step_size);
    munmap(r.copy, step_size);
    munmap(r.before, step_size);
    printf("%sok %u - %s (%llu instructions, %llu states judged)%s%s\n", bad ? "not " : "", number,
           c->name, (unsigned long long)r.steps, (unsigned long long)r.judged, bad ? ": " : "",
           bad ? bad : "");
    fflush(stdout);
    return !bad && r.judged > 1;
}
