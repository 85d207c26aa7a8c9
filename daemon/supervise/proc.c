/* SPDX-License-Identifier: MIT */
/* The book of processes: starting, watching, ending, starting again.
 *
 * A process is a child of the daemon, made as a zygote is (launch.c: vfork and exec, a session of its own, no descriptor but 0 to
 * 2, SIGKILL when the daemon dies) and watched by a pidfd. Callbacks only note what happened and put it on `news`;
 * everything is done in proc_turn(), so no event is freed in its own callback.
 *
 * The end of one, in this order: what is left of its group is killed while its number is still its own (it is not waited for
 * yet); it is waited for; what its pipe still holds is taken; then it is started again, after a pause, or has ended, and who
 * waits is told. Its descendants that have left its session are then children of the daemon, a subreaper, and carry
 * HEARTH_PROC and HEARTH_PROC_RUN in their environment: they are looked for after each end (sweep), and again after each orphan
 * that was waited for, until none is found. A process that has cleared its environment is not found, unless there are control
 * groups (cgroup.h): then each run has one, and what is in it goes with it.
 *
 * What is killed when: the starter: OWNED ones end, others go on. A child at any instruction: before its exec it tells
 * nobody anything, and the start fails or its end is noticed; after it, its end is noticed. The daemon: the kernel kills each
 * process it has started (PDEATHSIG), not what they have started; under systemd the unit's control group takes those.
 *
 * Fails: proc_start() and, for one that is to be started again, `why`. */
#include "daemon/proc.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/family.h"
#include "daemon/supervise/private.h"
#include "daemon/supervise/procs.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

enum {
    IDS_PER_MS = 16
}; /* ids begin behind those of a daemon before, unless it started more a millisecond */

#define UNSEAT_RETRY (2 * NS_PER_MS)

const char *const proc_state_names[PROC_STATES] = {"running", "pausing", "stopping", "ended"};

static void on_exit_seen(evutil_socket_t fd, short what, void *arg) {
    struct proc *p = arg;
    (void)fd;
    (void)what;
    p->exited = true;
    p->d->heard++;
    procs_news(p);
}

void procs_news(struct proc *p) {
    if (list_empty(&p->news)) {
        list_append(&p->d->procs->news, &p->news);
    }
}

/* ---- finding ---- */

struct proc *proc_by_id(const struct hearthd *d, uint64_t id) {
    const struct procs *ps = d->procs;
    for (struct list *it = ps->all.prev; it != &ps->all; it = it->prev) {
        struct proc *p = list_entry(it, struct proc, node);
        if (p->id <= id) {
            return p->id == id ? p : NULL;
        }
    }
    return NULL;
}

struct proc *proc_find(struct hearthd *d, const char *word, size_t len) {
    uint64_t id;
    struct proc *latest = NULL;
    if (num_u64(word, len, &id) == 0) {
        return proc_by_id(d, id);
    }
    for (struct list *it = d->procs->all.prev; len > 0 && it != &d->procs->all; it = it->prev) {
        struct proc *p = list_entry(it, struct proc, node);
        if (strlen(p->spec.name) == len && memcmp(p->spec.name, word, len) == 0) {
            if (p->state != PROC_ENDED) {
                return p;
            }
            latest = latest ? latest : p;
        }
    }
    return latest;
}

struct proc *proc_next(const struct hearthd *d, const struct proc *p) {
    const struct list *next = p ? p->node.next : d->procs->all.next;
    return next == &d->procs->all ? NULL
                                  : list_entry((struct list *)(uintptr_t)next, struct proc, node);
}

struct proc *procs_by_pid(const struct procs *ps, pid_t pid) {
    struct proc *p = ps->by_pid[(uint32_t)pid % PROCS_HASH];
    while (p && p->pid != pid) {
        p = p->pid_next;
    }
    return p;
}

static void pid_add(struct procs *ps, struct proc *p) {
    struct proc **at = &ps->by_pid[(uint32_t)p->pid % PROCS_HASH];
    p->pid_next = *at;
    *at = p;
}

static void pid_del(struct procs *ps, struct proc *p) {
    struct proc **at = &ps->by_pid[(uint32_t)p->pid % PROCS_HASH];
    while (*at != p) {
        at = &(*at)->pid_next;
    }
    *at = p->pid_next;
    p->pid = 0;
}

/* ---- one that is made, and freed ---- */

static size_t words_size(const char *const *words, size_t *ret_n) {
    size_t n = 0, bytes = 0;
    for (; words[n]; n++) {
        bytes += strlen(words[n]) + 1;
    }
    *ret_n = n + 1;
    return bytes;
}

static const char *copy_word(char **at, const char *word) {
    const char *copy = *at;
    *at = stpcpy(*at, word) + 1;
    return copy;
}

static const char *const *copy_words(const char ***table, char **at, const char *const *words) {
    const char **copy = *table;
    size_t n = 0;
    for (; words[n]; n++) {
        copy[n] = copy_word(at, words[n]);
    }
    copy[n] = NULL;
    *table += n + 1;
    return copy;
}

/* All strings of a spec in one block; NULL: no memory. */
static void *spec_copy(const struct proc_spec *from, struct proc_spec *to) {
    size_t n_argv, n_env;
    size_t bytes = words_size(from->argv, &n_argv) + words_size(from->env, &n_env) +
                   strlen(from->name) + strlen(from->directory) + 2;
    const char **table = malloc((n_argv + n_env) * sizeof(*table) + bytes);
    void *block = table;
    if (block) {
        char *at = (char *)(table + n_argv + n_env);
        *to = *from;
        to->argv = copy_words(&table, &at, from->argv);
        to->env = copy_words(&table, &at, from->env);
        to->name = copy_word(&at, from->name);
        to->directory = copy_word(&at, from->directory);
    }
    return block;
}

void procs_close_fds(struct proc *p) {
    for (int i = 0; i < 3; i++) {
        if (p->fds[i] >= 0) {
            close(p->fds[i]);
            p->fds[i] = -1;
        }
    }
}

static void unwatch(struct proc *p) {
    if (p->out_write_fd >= 0) {
        close(p->out_write_fd);
        p->out_write_fd = -1;
    }
    struct event **events[] = {&p->exit_event, &p->out_event};
    int *fds[] = {&p->pidfd, &p->out_fd};
    for (int i = 0; i < 2; i++) {
        if (*events[i]) {
            event_free(*events[i]);
            *events[i] = NULL;
        }
        if (*fds[i] >= 0) {
            close(*fds[i]);
            *fds[i] = -1;
        }
    }
}

static void proc_free(struct proc *p) {
    struct procs *ps = p->d->procs;
    assert(list_empty(&p->waiters));
    unwatch(p);
    procs_close_fds(p);
    if (p->pid) {
        pid_del(ps, p);
    }
    ps->n_live -= p->state != PROC_ENDED;
    ps->n_kept -= p->state == PROC_ENDED;
    list_del(&p->node);
    list_del(&p->news);
    buf_deinit(&p->output);
    free(p->block);
    free(p);
}

static struct proc *proc_new(struct hearthd *d, const struct proc_spec *spec, const int fds[3]) {
    struct proc *p = calloc(1, sizeof(*p));
    if (!p) {
        return NULL;
    }
    p->d = d;
    p->pidfd = p->out_fd = p->out_write_fd = -1;
    list_init(&p->node);
    list_init(&p->news);
    list_init(&p->waiters);
    bool copied = true;
    for (int i = 0; i < 3; i++) {
        p->fds[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        copied &= fds[i] < 0 || p->fds[i] >= 0;
    }
    p->block = spec_copy(spec, &p->spec);
    if (!p->block || !copied) {
        procs_close_fds(p);
        free(p->block);
        free(p);
        return NULL;
    }
    p->id = d->procs->next_id++;
    list_append(&d->procs->all, &p->node);
    d->procs->n_live++;
    return p;
}

/* ---- its run ---- */

static int watch(struct proc *p) {
    struct event_base *base = p->d->base;
    p->exit_event = event_new(base, p->pidfd, EV_READ, on_exit_seen, p);
    if (!p->exit_event || event_add(p->exit_event, NULL) < 0) {
        return -ENOMEM;
    }
    return p->out_fd < 0 ? 0 : procs_output_watch(p);
}

/* What is left of a run goes, wherever it has hidden. */
static void end_group(struct proc *p) {
    char name[CGROUP_NAME];
    cgroup_process_name(p->id, p->runs, name);
    cgroup_end(p->d->cgroups, name);
    p->d->supervise->look |= p->d->cgroups != NULL; /* it may have to be tried again */
}

/* 0, or -errno with the step that failed. */
static int run(struct proc *p, const char **ret_what) {
    struct procs *ps = p->d->procs;
    p->runs++;
    p->exited = false;
    p->since = clock_wall_ms();
    p->started_ns = clock_now();
    int r = procs_launch(p, ret_what);
    if (r == 0) {
        pid_add(ps, p);
        r = watch(p);
        *ret_what = "event";
    }
    if (r < 0 && p->pid) {
        kill(-p->pid, SIGKILL);
        waitpid(p->pid, &p->status, 0);
        pid_del(ps, p);
    }
    if (r < 0) {
        unwatch(p);
        end_group(p);
        procs_unseat(p); /* if somebody holds a lock just now, the next daemon does it */
        return r;
    }
    p->ended = 0;
    p->failed = false;
    p->state = PROC_RUNNING;
    ps->stats.started++;
    events_proc(p->d, EVENT_PROC_STARTED, p, p->runs, NULL);
    log_debug(NULL, "process %llu%s%s: started as %d: %s", (unsigned long long)p->id,
              *p->spec.name ? " " : "", p->spec.name, (int)p->pid, p->spec.argv[0]);
    return 0;
}

static uint32_t live_of(const struct hearthd *d, uid_t uid) {
    uint32_t n = 0;
    for (const struct proc *p = proc_next(d, NULL); p; p = proc_next(d, p)) {
        n += p->state != PROC_ENDED && p->uid == uid && !p->spec.configured;
    }
    return n;
}

static int may_start(struct hearthd *d, const struct proc_spec *spec, uid_t uid, char why[128]) {
    const struct config_limits *l = &d->config->limits;
    const struct proc *same = proc_find(d, spec->name, strlen(spec->name));
    bool privileged = uid == 0 || uid == getuid();
    if (same && same->state != PROC_ENDED) {
        snprintf(why, 128, "process %llu has that name", (unsigned long long)same->id);
        return -EEXIST;
    }
    if (spec->pool && d->procs->n_seats >= PROC_SEATS) {
        snprintf(why, 128, "as many of handlers as may (%d) run", PROC_SEATS);
        return -EDQUOT;
    }
    if (d->procs->n_live >= l->max_processes) {
        snprintf(why, 128, "as many as may (limits.max_processes %u) run", l->max_processes);
        return -EDQUOT;
    }
    if (!privileged && l->user_processes && live_of(d, uid) >= l->user_processes) {
        snprintf(why, 128, "as many of user %u as may (limits.user_processes %u) run",
                 (unsigned)uid, l->user_processes);
        return -EDQUOT;
    }
    return 0;
}

int proc_start(struct hearthd *d, const struct proc_spec *spec, const int fds[3], uid_t uid,
               uint64_t client, struct proc **ret, char why[128]) {
    const char *what = "memory";
    int r = may_start(d, spec, uid, why);
    if (r < 0) {
        return r;
    }
    struct proc *p = proc_new(d, spec, fds);
    r = p ? 0 : -ENOMEM;
    if (p) {
        p->uid = uid;
        p->client = client;
        r = run(p, &what);
    }
    if (r < 0) {
        snprintf(why, 128, "%.80s: %s", what, strerror(-r));
        if (p) {
            proc_free(p);
        }
        return r;
    }
    if (spec->restart == PROC_NEVER) {
        procs_close_fds(p); /* who reads from it must see its end */
    }
    *ret = p;
    return 0;
}

/* ---- signals ---- */

struct collecting {
    struct supervise *s;
    const struct proc *of; /* NULL: of all that do not run any more, or not in that run */
    struct family *f;
};

static bool is_known(void *arg, pid_t child) {
    const struct collecting *k = arg;
    return supervise_knows(k->s, child);
}

static void collect(void *arg, pid_t child, const char *env, size_t len) {
    const struct collecting *k = arg;
    const char *id = family_variable(env, len, "HEARTH_PROC");
    const char *run_no = family_variable(env, len, "HEARTH_PROC_RUN");
    uint64_t number, runs;
    if (!id || !run_no || num_u64(id, strlen(id), &number) < 0 ||
        num_u64(run_no, strlen(run_no), &runs) < 0) {
        return;
    }
    const struct proc *p = proc_by_id(k->s->d, number);
    bool over = p && (p->pid == 0 || runs != p->runs);
    if (k->of ? p == k->of && !over : over) {
        family_add_child(k->f, child);
    }
}

/* All that descends from it, also what is not in its process group. */
static void tree(struct proc *p, struct family *ret) {
    struct collecting k = {p->d->supervise, p, ret};
    if (p->d->cgroups) {
        char name[CGROUP_NAME];
        ret->n = 0;
        cgroup_process_name(p->id, p->runs, name);
        cgroup_members(p->d->cgroups, name, ret);
        return;
    }
    family_collect(p->pid, ret);
    family_each_orphan(is_known, collect, &k);
}

int proc_signal(struct proc *p, int sig, bool alone) {
    struct family f;
    if (p->pid == 0) {
        return -ESRCH;
    }
    if (alone) {
        return pidfd_send_signal(p->pidfd, sig, NULL, 0) < 0 ? -errno : 0;
    }
    tree(p, &f);
    kill(-p->pid, sig);
    if (sig == SIGKILL) {
        char name[CGROUP_NAME];
        cgroup_process_name(p->id, p->runs, name);
        cgroup_kill(p->d->cgroups, name);
    }
    for (uint32_t i = 0; i < f.n; i++) {
        if (getpgid(f.pid[i]) != p->pid) {
            pidfd_send_signal(f.fd[i], sig, NULL, 0);
        }
    }
    family_release(&f);
    return 0;
}

void proc_stop(struct proc *p, bool now) {
    if (p->state == PROC_ENDED) {
        return;
    }
    if (p->state != PROC_STOPPING) {
        p->due_ns = clock_now() + p->spec.stop_ms * NS_PER_MS;
        p->state = PROC_STOPPING;
    } else if (!now) {
        return;
    }
    if (p->pid == 0) {
        procs_news(p); /* it pauses: has ended in the next turn */
    } else if (now) {
        p->due_ns = 0;
        proc_signal(p, SIGKILL, false);
    } else {
        proc_signal(p, SIGTERM, false);
        proc_signal(p, SIGCONT, false);
    }
    p->d->procs->retime = true;
}

void proc_client_ends(struct hearthd *d, uint64_t client) {
    for (struct proc *p = proc_next(d, NULL); p; p = proc_next(d, p)) {
        if (p->client == client) {
            proc_stop(p, false);
        }
    }
}

void proc_remove(struct proc *p) {
    assert(p->state == PROC_ENDED);
    proc_free(p);
}

int proc_signal_number(const char *text, size_t len) {
    uint64_t n;
    if (num_u64(text, len, &n) == 0) {
        return n > 0 && n < NSIG ? (int)n : 0;
    }
    if (len > 3 && strncasecmp(text, "SIG", 3) == 0) {
        text += 3;
        len -= 3;
    }
    for (int i = 1; i < NSIG; i++) {
        const char *name = sigabbrev_np(i);
        if (name && strlen(name) == len && strncasecmp(name, text, len) == 0) {
            return i;
        }
    }
    return 0;
}

/* ---- waiting ---- */

void proc_wait(struct proc *p, struct proc_waiter *w) {
    assert(p->state != PROC_ENDED);
    list_append(&p->waiters, &w->node);
}

void proc_unwait(struct proc_waiter *w) {
    list_del(&w->node);
}

/* ---- the end of a run ---- */

static void end_text(struct proc *p) {
    siginfo_t si = {.si_code = WIFEXITED(p->status)   ? CLD_EXITED
                               : WCOREDUMP(p->status) ? CLD_DUMPED
                                                      : CLD_KILLED};
    char how[64];
    si.si_pid = 1;
    si.si_status = WIFEXITED(p->status) ? WEXITSTATUS(p->status) : WTERMSIG(p->status);
    reap_text(&si, how);
    snprintf(p->why, sizeof(p->why), "%s", how);
}

/* True: it has been waited for. */
bool procs_reap(struct proc *p) {
    siginfo_t si = {0};
    if (waitid(P_PIDFD, (id_t)p->pidfd, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0) {
        return false;
    }
    kill(-p->pid, SIGKILL); /* what is left of its group */
    if (wait4(p->pid, &p->status, WNOHANG, &p->usage) != p->pid) {
        return false;
    }
    if (p->out_fd >= 0) {
        procs_output_take(p);
    }
    end_text(p);
    unwatch(p);
    end_group(p);
    pid_del(p->d->procs, p);
    p->ended = clock_wall_ms();
    p->d->procs->sweep = true;
    procs_news(p);
    return true;
}

static void finish(struct proc *p) {
    struct procs *ps = p->d->procs;
    p->state = PROC_ENDED;
    p->due_ns = 0;
    p->ended = p->ended ? p->ended : clock_wall_ms();
    ps->n_live--;
    ps->n_kept++;
    procs_close_fds(p);
    events_proc(p->d, EVENT_PROC_ENDED, p, p->runs, p->why);
    list_for_each_safe (it, &p->waiters) {
        struct proc_waiter *w = list_entry(it, struct proc_waiter, node);
        list_del(it);
        w->ended(w, p);
    }
}

/* May it be started once more? Counts it. */
static bool counted(struct proc *p, uint64_t now) {
    if (now - p->window_ns > p->spec.window_ms * NS_PER_MS) {
        p->window_ns = now;
        p->in_window = 0;
    }
    return p->spec.max_restarts == 0 || p->in_window++ < p->spec.max_restarts;
}

static void pause_before_next(struct proc *p, uint64_t now) {
    uint64_t lived_ms = (now - p->started_ns) / NS_PER_MS;
    bool anew = p->pause_ms == 0 || lived_ms > PROC_BACKOFF_MAX_MS || lived_ms > 10 * p->pause_ms;
    uint64_t pause = anew ? p->spec.backoff_ms : 2 * (uint64_t)p->pause_ms;
    uint64_t most =
        p->spec.backoff_ms > PROC_BACKOFF_MAX_MS ? p->spec.backoff_ms : PROC_BACKOFF_MAX_MS;
    p->pause_ms = (uint32_t)(pause < most ? pause : most);
    p->state = PROC_PAUSING;
    p->due_ns = now + p->pause_ms * NS_PER_MS;
    p->d->procs->retime = true;
    p->d->procs->stats.restarts++;
    events_proc(p->d, EVENT_PROC_RESTARTING, p, p->pause_ms, p->why);
}

/* A run is over, or could not be begun. */
static void run_over(struct proc *p) {
    uint64_t now = clock_now();
    bool bad = p->failed || p->status != 0;
    bool wanted = p->state != PROC_STOPPING && !p->d->stopping &&
                  (p->spec.restart == PROC_ALWAYS || (p->spec.restart == PROC_ON_FAILURE && bad));
    p->d->procs->stats.failed += bad;
    if (wanted && !counted(p, now)) {
        char how[sizeof(p->why)];
        memcpy(how, p->why, sizeof(how));
        snprintf(p->why, sizeof(p->why), "%.64s; restarted too often", how);
        wanted = false;
    }
    if (bad && p->state != PROC_STOPPING && (p->spec.restart != PROC_NEVER || p->spec.configured)) {
        log_warn(LOG_ABOUT(.message = MESSAGE_PROCESS_ENDED), "process %llu%s%s: %s",
                 (unsigned long long)p->id, *p->spec.name ? " " : "", p->spec.name, p->why);
    }
    if (wanted) {
        pause_before_next(p, now);
    } else {
        finish(p);
    }
}

static void run_again(struct proc *p) {
    const char *what = "";
    p->due_ns = 0;
    int r = run(p, &what);
    if (r < 0) {
        p->failed = true;
        p->ended = clock_wall_ms();
        snprintf(p->why, sizeof(p->why), "%.50s: %.40s", what, strerror(-r));
        run_over(p);
    }
}

/* ---- those of the configuration ---- */

static struct proc *configured(const struct hearthd *d, const char *name) {
    for (struct list *it = d->procs->all.prev; it != &d->procs->all; it = it->prev) {
        struct proc *p = list_entry(it, struct proc, node);
        if (p->spec.configured && !p->removed && strcmp(p->spec.name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

static struct proc_spec spec_of(const struct process_config *c) {
    return (struct proc_spec){.name = c->name,
                              .argv = (const char *const *)c->command.v,
                              .env = (const char *const *)c->env.v,
                              .directory = c->working_directory,
                              .restart = c->restart,
                              .backoff_ms = c->backoff_ms,
                              .max_restarts = c->max_restarts,
                              .window_ms = c->window_ms,
                              .stop_ms = c->stop_ms,
                              .configured = true};
}

static bool same_words(const char *const *a, const char *const *b) {
    while (*a && *b && strcmp(*a, *b) == 0) {
        a++;
        b++;
    }
    return !*a && !*b;
}

static bool is_as(const struct proc *p, const struct process_config *c) {
    struct proc_spec s = spec_of(c);
    return same_words(p->spec.argv, s.argv) && same_words(p->spec.env, s.env) &&
           strcmp(p->spec.directory, s.directory) == 0 && p->spec.restart == s.restart &&
           p->spec.backoff_ms == s.backoff_ms && p->spec.max_restarts == s.max_restarts &&
           p->spec.window_ms == s.window_ms && p->spec.stop_ms == s.stop_ms;
}

/* What cannot be started is tried again as if it had ended. */
static void start_configured(struct hearthd *d, const struct process_config *c) {
    static const int none[3] = {-1, -1, -1};
    struct proc_spec spec = spec_of(c);
    char why[128] = "out of memory";
    bool may = may_start(d, &spec, getuid(), why) == 0;
    struct proc *p = may ? proc_new(d, &spec, none) : NULL;
    if (!p) {
        log_err(LOG_ABOUT(.message = MESSAGE_PROCESS_ENDED), "process %s is not started: %s",
                c->name, why);
        return;
    }
    p->uid = getuid();
    run_again(p);
}

/* Those that wait for the former one of their name to end. */
static void start_missing(struct hearthd *d) {
    struct procs *ps = d->procs;
    ps->look_at_start = false;
    for (uint32_t i = 0; ps->start && i < d->config->n_processes && !d->stopping; i++) {
        const char *name = d->config->processes[i].name;
        const struct proc *p = proc_find(d, name, strlen(name));
        if (ps->start[i] && (!p || p->state == PROC_ENDED)) {
            ps->start[i] = false;
            start_configured(d, &d->config->processes[i]);
        }
    }
}

void procs_configure(struct hearthd *d) {
    struct procs *ps = d->procs;
    const struct config *c = d->config;
    for (struct proc *p = proc_next(d, NULL); p; p = proc_next(d, p)) {
        bool wanted = !p->spec.configured;
        for (uint32_t i = 0; i < c->n_processes && !wanted; i++) {
            wanted = strcmp(c->processes[i].name, p->spec.name) == 0 && is_as(p, &c->processes[i]);
        }
        if (!wanted) {
            p->removed = true;
            proc_stop(p, false);
            ps->trim = true;
        }
    }
    free(ps->start);
    ps->start = calloc(c->n_processes + 1, sizeof(*ps->start));
    for (uint32_t i = 0; ps->start && i < c->n_processes; i++) {
        ps->start[i] = !configured(d, c->processes[i].name);
    }
    ps->look_at_start = true;
}

/* ---- turning ---- */

static void look(struct proc *p) {
    if (p->pid && p->exited && !procs_reap(p)) {
        p->exited = false; /* not yet: SIGCHLD comes */
        event_add(p->exit_event, NULL);
        return;
    }
    list_del(&p->news);
    if (p->pid != 0 || (p->state != PROC_RUNNING && p->state != PROC_STOPPING)) {
        return;
    }
    if (procs_unseat(p)) {
        run_over(p);
    } else {
        p->due_ns = clock_now() + UNSEAT_RETRY;
        p->d->procs->retime = true;
    }
}

static void act_on_due(struct procs *ps, uint64_t now) {
    ps->next_due_ns = UINT64_MAX;
    list_for_each (it, &ps->all) {
        struct proc *p = list_entry(it, struct proc, node);
        if (p->due_ns != 0 && p->due_ns <= now) {
            p->due_ns = 0;
            if (p->state == PROC_PAUSING) {
                run_again(p);
            } else if (p->pid != 0) {
                proc_signal(p, SIGKILL, false);
            } else {
                procs_news(p); /* its slot could not be buried */
            }
        }
        if (p->due_ns != 0 && p->due_ns < ps->next_due_ns) {
            ps->next_due_ns = p->due_ns;
        }
    }
    ps->retime = false;
    if (ps->next_due_ns == UINT64_MAX) {
        event_del(ps->timer);
        return;
    }
    now = clock_now();
    uint64_t us = ps->next_due_ns > now ? (ps->next_due_ns - now) / 1000 + 1 : 1;
    struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    event_add(ps->timer, &tv);
}

/* Kills what former runs have left behind. */
static void sweep(struct supervise *s) {
    struct family f = {0};
    struct collecting k = {s, NULL, &f};
    s->d->procs->sweep = false;
    family_each_orphan(is_known, collect, &k);
    family_kill(&f);
    family_release(&f);
}

void procs_orphan_ended(struct hearthd *d) {
    d->procs->sweep |= d->procs->stats.started > 0;
}

/* Forgets the oldest of those that have ended, and those that nobody wants to hear of. */
static void trim(struct hearthd *d) {
    struct procs *ps = d->procs;
    list_for_each_safe (it, &ps->all) {
        struct proc *p = list_entry(it, struct proc, node);
        if (p->state == PROC_ENDED &&
            (p->removed || ps->n_kept > d->config->limits.max_processes)) {
            proc_free(p);
        }
    }
}

bool procs_have_news(const struct hearthd *d) {
    const struct procs *ps = d->procs;
    return ps && (!list_empty(&ps->news) || ps->sweep || ps->retime || ps->look_at_start);
}

void procs_turn(struct hearthd *d) {
    struct procs *ps = d->procs;
    if (!procs_have_news(d)) {
        return;
    }
    uint32_t kept = ps->n_kept;
    bool sweep_now = ps->sweep; /* of ends before this turn: who waits for one hears of it first */
    list_for_each_safe (it, &ps->news) {
        struct proc *p = list_entry(it, struct proc, news);
        list_del(it);
        look(p);
    }
    if (sweep_now) {
        sweep(d->supervise);
    }
    if (ps->retime) {
        act_on_due(ps, clock_now());
    }
    if (ps->n_kept != kept || ps->trim) {
        ps->trim = false;
        trim(d);
        ps->look_at_start = true;
    }
    if (ps->look_at_start) {
        start_missing(d);
    }
}

static void on_time(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    ((struct procs *)arg)->retime = true;
}

/* ---- all of them ---- */

int procs_open(struct hearthd *d) {
    struct procs *ps = calloc(1, sizeof(*ps));
    if (!ps) {
        return -ENOMEM;
    }
    list_init(&ps->all);
    list_init(&ps->news);
    ps->next_id = d->started_wall_ms * IDS_PER_MS;
    ps->next_due_ns = UINT64_MAX;
    ps->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    ps->timer = evtimer_new(d->base, on_time, ps);
    d->procs = ps;
    return ps->null_fd < 0 ? -errno : ps->timer ? 0 : -ENOMEM;
}

void procs_stop(struct hearthd *d, uint64_t deadline_ns) {
    for (struct proc *p = proc_next(d, NULL); p; p = proc_next(d, p)) {
        proc_stop(p, false);
        if (p->due_ns > deadline_ns) {
            p->due_ns = deadline_ns;
        }
    }
}

bool procs_stopped(const struct hearthd *d) {
    return d->procs->n_live == 0;
}

void procs_close(struct hearthd *d) {
    struct procs *ps = d->procs;
    if (!ps) {
        return;
    }
    list_for_each_safe (it, &ps->all) {
        struct proc *p = list_entry(it, struct proc, node);
        while (!list_empty(&p->waiters)) {
            list_del(p->waiters.next);
        }
        proc_free(p);
    }
    if (ps->timer) {
        event_free(ps->timer);
    }
    if (ps->null_fd >= 0) {
        close(ps->null_fd);
    }
    free(ps->start);
    free(ps);
    d->procs = NULL;
}

void proc_stats(const struct hearthd *d, struct proc_stats *ret) {
    *ret = d->procs->stats;
    ret->running = d->procs->n_live;
    ret->kept = d->procs->n_kept;
}
