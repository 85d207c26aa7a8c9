/* SPDX-License-Identifier: MIT */
/* Waiting is done as the daemon does it: declare sleep, look once more, poll the doorbell. Tasks
 * are found by their record, not by the ring of ended ones, since a test knows which it waits for;
 * the ring is emptied on the way, as it must not fill. */
#include "tests/support/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "tests/support/child.h"

struct start {
    int fds[3]; /* 3, 4, 5 of the zygote */
    char *argv[32];
};

static int exec_zygote(void *arg) {
    struct start *st = arg;
    int high[3];
    struct rlimit no_core = {0, 0};
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++) {
        high[i] = fcntl(st->fds[i], F_DUPFD_CLOEXEC, 20);
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(high[i], 3 + i) < 0) {
            return 126;
        }
    }
    dup2(null, 0);
    setrlimit(RLIMIT_CORE, &no_core);
    execv(st->argv[0], st->argv);
    return 127;
}

bool rig_under_valgrind(void) {
    const char *preload = getenv("LD_PRELOAD");
    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

int rig_open(struct rig *r, const char *module, const char *const more[]) {
    char index[16];
    int pair[2];
    const char *program = getenv("HEARTH_WORKER");
    struct shm_params params = {.size = UINT64_C(192) << 20, .slots = 16, .tasks = 4096};
    uint32_t slot, gen;
    *r = (struct rig){.control = -1, .bell = -1, .zygote = -1};
    if (program == NULL) {
        return -ENOENT;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    int e = shm_create(&r->s, &params);
    e = e < 0 ? e : slot_reserve(&r->s, UINT32_MAX, &slot, &gen);
    e = e < 0 ? e : slot_attach(&r->s, slot, gen);
    e = e < 0 ? e : shm_pool_create(&r->s, RIG_POOL, "rig", 1024);
    if (e < 0) {
        return e;
    }
    r->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->bell < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    snprintf(index, sizeof(index), "%d", RIG_POOL);
    struct start st = {.fds = {pair[1], r->s.fd, r->bell}};
    const char *head[] = {
        program, "--pool", "rig", "--index", index, module ? "--module" : "--exec", module};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(head) && head[i] != NULL; i++) {
        st.argv[n++] = (char *)(uintptr_t)head[i];
    }
    for (size_t i = 0; more != NULL && more[i] != NULL && n + 1 < ARRAY_SIZE(st.argv); i++) {
        st.argv[n++] = (char *)(uintptr_t)more[i];
    }
    r->control = pair[0];
    r->zygote = child_start(exec_zygote, &st);
    close(pair[1]);
    return r->zygote < 0 ? (int)r->zygote : 0;
}

int rig_hear(struct rig *r, struct control_msg *ret) {
    struct pollfd p = {.fd = r->control, .events = POLLIN};
    if (poll(&p, 1, RIG_LIMIT_MS) != 1) {
        return -ETIMEDOUT;
    }
    ssize_t n = recv(r->control, ret, sizeof(*ret), 0);
    if (n < 0) {
        return -errno;
    }
    if (n == 0) {
        return -EPIPE;
    }
    return (size_t)n == CONTROL_HEAD + ret->text_len ? 0 : -EBADMSG;
}

int rig_ready(struct rig *r) {
    struct control_msg m;
    int e = rig_hear(r, &m);
    if (e == 0 && m.kind != CONTROL_READY) {
        fprintf(stderr, "zygote: %.*s\n", (int)m.text_len, m.text);
        return -EPROTO;
    }
    return e;
}

/* Waits until done(), looking whenever the doorbell was rung. */
static int wait_until(struct rig *r, bool (*done)(struct rig *, void *), void *arg) {
    uint64_t end = clock_now() + RIG_LIMIT_MS * NS_PER_MS;
    uint64_t rung;
    for (;;) {
        shm_daemon_sleeps(&r->s);
        bool is_done = done(r, arg);
        uint64_t now = clock_now();
        if (!is_done && now < end) {
            struct pollfd p = {.fd = r->bell, .events = POLLIN};
            poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1);
            if (read(r->bell, &rung, sizeof(rung)) < 0 && errno != EAGAIN) {
                return -errno;
            }
        }
        shm_daemon_wakes(&r->s);
        if (is_done || now >= end) {
            return is_done ? 0 : -ETIMEDOUT;
        }
    }
}

struct wanted {
    uint32_t slot;
    enum slot_state state;
};

static bool state_is(struct rig *r, void *arg) {
    const struct wanted *w = arg;
    struct slot_view v;
    slot_view(&r->s, w->slot, &v);
    return v.state == w->state;
}

int rig_wait_state(struct rig *r, uint32_t slot, enum slot_state state) {
    struct wanted w = {slot, state};
    return wait_until(r, state_is, &w);
}

int rig_worker(struct rig *r, bool go, struct rig_worker *ret) {
    struct control_msg m = {.kind = CONTROL_SPAWN};
    struct rig_worker w = {0};
    int e = slot_reserve(&r->s, RIG_POOL, &w.slot, &w.gen);
    if (e < 0) {
        return e;
    }
    m.slot = w.slot;
    m.gen = w.gen;
    if (send(r->control, &m, CONTROL_HEAD, MSG_NOSIGNAL) < 0) {
        return -errno;
    }
    e = rig_hear(r, &m);
    if (e < 0) {
        return e;
    }
    if (m.kind != CONTROL_SPAWNED || m.slot != w.slot || m.gen != w.gen) {
        return -EPROTO;
    }
    w.pid = m.pid;
    *ret = w;
    e = rig_wait_state(r, w.slot, SLOT_WARM);
    if (e == 0 && go) {
        slot_command(&r->s, w.slot, SLOT_GO);
        e = rig_wait_state(r, w.slot, SLOT_SERVING);
    }
    return e;
}

static int wait_for_pid(pid_t pid) {
    uint64_t end = clock_now() + RIG_LIMIT_MS * NS_PER_MS;
    int status;
    /* the worker becomes ours when its parent between has exited: before that it is nobody's we
     * know */
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) {
            return status;
        }
        if (clock_now() > end) {
            kill(pid, SIGKILL);
            return got < 0 ? -errno : -ETIMEDOUT;
        }
        struct timespec nap = {0, 1000000};
        nanosleep(&nap, NULL);
    }
}

int rig_bury(struct rig *r, const struct rig_worker *w) {
    struct task_outcome lost = {.state = TASK_LOST, .cause = CAUSE_EXIT};
    uint32_t idx;
    int status = wait_for_pid(w->pid);
    if (status < 0) {
        return status;
    }
    if (WIFSIGNALED(status)) {
        lost.cause = CAUSE_SIGNAL;
        lost.signal = (uint8_t)WTERMSIG(status);
    } else {
        lost.code = WEXITSTATUS(status);
    }
    int e = slot_bury(&r->s, w->slot, w->gen);
    if (e == 0) {
        e = task_reap(&r->s, w->slot, w->gen, &lost, &idx);
    }
    slot_release(&r->s, w->slot, w->gen);
    return e < 0 ? e : status;
}

int rig_retire(struct rig *r, const struct rig_worker *w) {
    slot_command(&r->s, w->slot, SLOT_EXIT);
    return rig_bury(r, w);
}

int rig_hang_up(struct rig *r) {
    close(r->control);
    r->control = -1;
    int status = child_wait(r->zygote);
    r->zygote = -1;
    return status;
}

void rig_close(struct rig *r) {
    if (r->zygote == 0) {
        return; /* never opened */
    }
    if (r->control >= 0) {
        close(r->control);
    }
    child_kill_all();
    for (uint32_t i = 0; r->s.base != NULL && i < 16; i++) {
        struct slot_view v;
        slot_view(&r->s, i, &v);
        if (v.state != SLOT_FREE && v.pid != 0 && (pid_t)v.pid != getpid() &&
            kill((pid_t)v.pid, SIGKILL) == 0) {
            wait_for_pid((pid_t)v.pid);
        }
    }
    if (r->bell >= 0) {
        close(r->bell);
    }
    shm_detach(&r->s);
}

int rig_submit(struct rig *r, uint32_t handler, uint32_t timeout_ms, const void *payload,
               size_t len, const char *const args[], struct task_ref *ret) {
    struct task_bytes bytes[64];
    struct task_spec spec = {.pool = RIG_POOL,
                             .handler = handler,
                             .timeout_ms = timeout_ms,
                             .payload = {payload, len},
                             .args = bytes};
    while (args != NULL && args[spec.nargs] != NULL && spec.nargs < ARRAY_SIZE(bytes)) {
        bytes[spec.nargs] = (struct task_bytes){args[spec.nargs], strlen(args[spec.nargs])};
        spec.nargs++;
    }
    int e = task_submit(&r->s, &spec, ret);
    if (e == 0) {
        task_wake(&r->s, RIG_POOL, 1);
    }
    return e;
}

struct awaited {
    const struct task_ref *t;
    struct task_view v;
};

static bool task_ended(struct rig *r, void *arg) {
    struct awaited *a = arg;
    uint32_t idx;
    while (task_next_ended(&r->s, &idx) == 0) {
    }
    return task_view(&r->s, a->t->idx, &a->v) == 0 && a->v.id == a->t->id &&
           task_state_is_terminal(a->v.state);
}

int rig_result(struct rig *r, const struct task_ref *t, struct task_view *ret) {
    struct awaited a = {.t = t};
    int e = wait_until(r, task_ended, &a);
    if (e == 0) {
        *ret = a.v;
    }
    return e;
}

int rig_run(struct rig *r, uint32_t handler, const void *payload, size_t len,
            const char *const args[], struct task_view *ret) {
    struct task_ref t;
    int e = rig_submit(r, handler, 0, payload, len, args, &t);
    return e < 0 ? e : rig_result(r, &t, ret);
}
