/* SPDX-License-Identifier: MIT */
/* hearthd: reads its arguments, opens the rooms of the daemon in order, runs the loop, closes them
 * in reverse.
 *
 *   config, log -> segment and the daemon's slot -> libevent -> book of tasks -> socket (bound and
 * listening, so that early clients wait in its backlog instead of being refused) -> zygotes, all at
 * once -> every pool warm -> READY=1, accept
 *
 * Signals. SIGTERM and SIGINT: no new connections or tasks; running tasks may finish within stop_timeout. If the segment
 * outlives us (keep.h), queued tasks stay in it for the next daemon, and what had to be killed is tried again there if it may
 * be; with restart = "handover" running ones are not waited for, but left to it with their workers; else queued ones end at once, and both kinds end LOST with CAUSE_STOPPING (attempt tells them apart). Then the ends are delivered, clients' output is written (for at most FLUSH_NS), and the
 * exit status is 0. A second SIGINT kills everything at once and exits 1. SIGHUP: the configuration
 * is read again, and put in force if it is good (reload.c); if we were started from a terminal that
 * is gone now, it means that, and we stop. SIGPIPE and SIGXFSZ are ignored.
 *
 * The daemon is a subreaper: workers are its children although zygotes fork them, and what a
 * command leaves behind becomes its child too, so that nothing outlives an orderly end.
 *
 * Fails: exit status 1, with the reason in the log; 2 for wrong arguments. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/durable.h"
#include "daemon/hearthd.h"
#include "daemon/keep.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/notify.h"
#include "daemon/recover.h"
#include "daemon/reload.h"
#include "daemon/serve/serve.h"
#include "daemon/supervise/cgroup.h"
#include "daemon/supervise/supervise.h"
#include "daemon/tasks.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/shm/keys.h"

enum {
    KEEP_BLOCK = 4 * 1024 * 1024, /* larger blocks of memory go back to the kernel when freed */
    KEEP_FREE = 8 * 1024 * 1024,  /* free memory at the heap's end over this does too */
};

#define FLUSH_NS (2 * NS_PER_SEC)

/* A service manager gives up on us when TimeoutStopSec= is over, whatever stop_timeout is. As long as the loop turns it is asked,
 * so often, for so much more: tasks may take their time, and a daemon that hangs is killed all the same. */
enum { EXTEND_EVERY_US = 400 * 1000, EXTEND_BY_US = 10 * 1000 * 1000 };

enum { STOP_SIGNALS = 3 };

struct options {
    const char *config, *socket;
    bool check, print;
};

struct run {
    struct hearthd d;
    struct loop *loop;
    struct event *signals[STOP_SIGNALS];
    struct event *extend; /* set while it stops */
    uint32_t interrupts;
    bool hurry;
    bool terminal; /* stderr is one */
    bool hung_up;  /* SIGHUP: to be seen to in this turn */
};

/* ---- arguments ---- */

static const char help[] =
    "usage: hearthd [-c FILE] [-s SOCKET] [--check | --print-config]\n"
    "\n"
    "Keeps pools of warm worker processes and serves tasks to them over a Unix socket.\n"
    "\n"
    "  -c, --config FILE   configuration (default: " HEARTH_CONF_DIR
    "/hearthd.conf, if it exists)\n"
    "  -s, --socket PATH   listen here, whatever the configuration says\n"
    "      --check         check the configuration and exit\n"
    "      --print-config  print the configuration with every effective value and exit\n"
    "      --foreground    stay in the foreground: hearthd always does; for the habit\n"
    "      --version       print the version and exit\n"
    "      --help          print this and exit\n"
    "\n"
    "SIGTERM or SIGINT stops it: running tasks may finish within stop_timeout. A second SIGINT\n"
    "ends everything at once. SIGHUP makes it read the configuration again.\n";

static void parse(int argc, char **argv, struct options *o) {
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'}, {"socket", required_argument, NULL, 's'},
        {"check", no_argument, NULL, 'k'},        {"print-config", no_argument, NULL, 'p'},
        {"foreground", no_argument, NULL, 'f'},   {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "c:s:h", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            o->config = optarg;
            break;
        case 's':
            o->socket = optarg;
            break;
        case 'k':
            o->check = true;
            break;
        case 'p':
            o->print = true;
            break;
        case 'f':
            break;
        case 'v':
            puts("hearthd " HEARTH_VERSION);
            exit(0);
        case 'h':
            fputs(help, stdout);
            exit(0);
        default:
            fputs("hearthd --help tells what there is\n", stderr);
            exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "hearthd: unexpected argument \"%s\"; hearthd --help tells what there is\n",
                argv[optind]);
        exit(2);
    }
}

/* Descriptors 0 to 2 must be something, or the next thing opened would be taken for them. */
static void fill_stdio(void) {
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 2) {
        fd = dup(fd);
    }
    if (fd > 2) {
        close(fd);
    }
}

static int load_config(const struct options *o, struct config **ret) {
    static const char fallback[] = HEARTH_CONF_DIR "/hearthd.conf";
    static struct config_error err; /* large */
    static char text[PATH_MAX + 1024];
    const char *path = o->config;

    if (!path && access(fallback, F_OK) == 0) {
        path = fallback;
    }
    int r = config_load(path, ret, &err);
    if (r < 0) {
        log_err(LOG_ABOUT(.message = MESSAGE_CONFIG), "%s",
                config_error_format(&err, text, sizeof(text)));
        return r;
    }
    if (o->socket) {
        r = config_set_socket(*ret, o->socket);
        if (r < 0) {
            log_err(NULL, "-s %s: %s", o->socket, strerror(-r));
        }
    }
    return r;
}

/* All that it starts runs as its own user. */
static bool is_root_unasked(const struct config *c) {
    const char *told = getenv("HEARTH_ALLOW_ROOT");
    if (geteuid() != 0 || c->allow_root || (told && *told)) {
        return false;
    }
    log_err(LOG_ABOUT(.message = MESSAGE_CONFIG),
            "it will not run as root: every worker, command and process would be root's. Run it as "
            "a user of its own "
            "(systemd's unit does), or say allow_root = true in the configuration");
    return true;
}

/* ---- opening ---- */

static int open_base(struct hearthd *d) {
    struct event_config *c = event_config_new();
    if (!c) {
        return -ENOMEM;
    }
    event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK); /* one thread */
    d->base = event_base_new_with_config(c);
    event_config_free(c);
    d->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool door = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, d->door_fds) == 0;
    if (!d->base || d->bell_fd < 0 || !door) {
        log_err(NULL, "cannot make the event loop: %s", strerror(errno));
        return -ENOMEM;
    }
    return 0;
}

static void on_extend(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    (void)arg;
    notify_extend(EXTEND_BY_US);
}

static void stop(struct run *run, const char *why) {
    struct hearthd *d = &run->d;
    uint64_t wait = d->config->stop_timeout_ms * NS_PER_MS;

    if (d->stopping) {
        return;
    }
    d->stopping = true;
    log_notice(LOG_ABOUT(.message = MESSAGE_STOPPING),
               "%s: stopping; running tasks may finish within %g s", why,
               d->config->stop_timeout_ms / 1000.0);
    notify_stopping();
    notify_extend(EXTEND_BY_US);
    event_add(run->extend, &(struct timeval){.tv_usec = EXTEND_EVERY_US});
    if (d->serve) {
        serve_accepting(d, false);
    }
    supervise_stop(d, clock_now() + wait);
    if (!d->kept) {
        tasks_end_all_queued(d, TASK_LOST, CAUSE_STOPPING);
    }
}

static void on_signal(evutil_socket_t sig, short what, void *arg) {
    struct run *run = arg;
    (void)what;
    if (sig == SIGHUP && !(run->terminal && !isatty(STDERR_FILENO))) {
        run->hung_up = true;
        return;
    }
    if (sig == SIGINT && ++run->interrupts > 1) {
        run->hurry = true;
    }
    stop(run, sig == SIGINT ? "SIGINT" : sig == SIGTERM ? "SIGTERM" : "the terminal is gone");
}

static int open_signals(struct run *run) {
    const int which[STOP_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a database that may not grow is EFBIG */
    run->terminal = isatty(STDERR_FILENO);
    run->extend = event_new(run->d.base, -1, EV_PERSIST, on_extend, run);
    if (!run->extend) {
        return -ENOMEM;
    }
    int r = 0;
    sigset_t stop, before;
    sigemptyset(&stop);
    for (int i = 0; i < STOP_SIGNALS; i++) {
        sigaddset(&stop, which[i]);
    }
    /* Ignored is what libevent puts back when it ends: one that comes then, when we are as good as gone, is not our end by a
     * signal. Blocked meanwhile, so that none is lost. */
    sigprocmask(SIG_BLOCK, &stop, &before);
    for (int i = 0; i < STOP_SIGNALS && r == 0; i++) {
        signal(which[i], SIG_IGN);
        run->signals[i] = evsignal_new(run->d.base, which[i], on_signal, run);
        r = run->signals[i] && event_add(run->signals[i], NULL) == 0 ? 0 : -ENOMEM;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (r < 0) {
        log_err(NULL, "cannot watch signals: out of memory");
    }
    return r;
}

static int open_all(struct run *run) {
    struct hearthd *d = &run->d;
    int r = keep_open(d);
    r = r < 0 ? r : recover_slots(d);

    if (r == 0) {
        r = open_base(d);
    }
    if (r == 0) {
        r = open_signals(run);
    }
    if (r == 0) {
        r = durable_open(d);
    }
    if (r == 0 && (r = tasks_open(d)) < 0) {
        log_err(NULL, "cannot keep the book of tasks: %s", strerror(-r));
    }
    if (r == 0 && (r = supervise_open(d)) < 0) { /* the zygotes load their modules while we go on */
        keep_advise(d);
    }
    if (r == 0) {
        r = durable_recover(d);
    }
    if (r == 0) {
        r = recover_tasks(d);
    }
    if (r == 0) {
        r = serve_open(d);
    }
    if (r == 0 && (r = loop_open(d, &run->loop)) < 0) {
        log_err(NULL, "cannot make the loop: %s", strerror(-r));
    }
    return r;
}

/* ---- running ---- */

static uint32_t count_workers(const struct hearthd *d) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_pools; i++) {
        n += d->pools[i].n_workers;
    }
    return n;
}

/* SIGHUP. Read while we start, the files are what we have read already, or so new that the answer is
 * to start anew: it waits until all pools are warm. */
static void hang_up(struct run *run) {
    static struct config_error err; /* large */
    struct buf plan = BUF_INIT;
    run->hung_up = false;
    if (run->d.stopping) {
        return;
    }
    notify_reloading();
    run->d.reload(&run->d, "SIGHUP", &plan, &err);
    buf_deinit(&plan);
    notify_ready();
}

/* Until every pool is warm. 0, or -1: it cannot start. */
static int warm_up(struct run *run) {
    struct hearthd *d = &run->d;

    for (;;) {
        loop_work(run->loop);
        const char *why = supervise_start_error(d);
        if (why) {
            log_err(LOG_ABOUT(.message = MESSAGE_POOL_FAILING), "cannot start: %s", why);
            return -1;
        }
        if (d->stopping || supervise_ready(d)) {
            break;
        }
        loop_wait(run->loop);
    }
    if (!d->stopping) {
        serve_accepting(d, true);
        loop_tell_status(run->loop);
        notify_ready();
        log_notice(LOG_ABOUT(.message = MESSAGE_READY),
                   "ready: %u workers in %u pools after %.1f ms, listening on %s", count_workers(d),
                   d->n_pools, (double)(clock_now() - d->started_ns) / NS_PER_MS,
                   d->config->socket_path);
    }
    return 0;
}

static int run_loop(struct run *run) {
    struct hearthd *d = &run->d;

    if (warm_up(run) < 0) {
        return 1;
    }
    for (;;) {
        if (run->hung_up) {
            hang_up(run);
        }
        loop_work(run->loop);
        if (run->hurry || (d->stopping && supervise_stopped(d))) {
            break;
        }
        loop_wait(run->loop);
    }
    if (run->hurry) {
        log_warn(LOG_ABOUT(.message = MESSAGE_STOPPED), "interrupted again: ending at once");
        return 1;
    }
    while (tasks_turn(d)) {
    }
    durable_drain(d, clock_now() + FLUSH_NS);
    serve_flush(d, clock_now() + FLUSH_NS);
    supervise_hand_over(d);
    log_info(LOG_ABOUT(.message = MESSAGE_STOPPED), "stopped");
    return 0;
}

/* Nothing is left in the segment that anybody could ask a successor for. */
static bool is_empty(struct hearthd *d) {
    struct tasks_stats n;
    tasks_stats(d, &n);
    return n.live + n.kept + n.fetched + n.dead == 0 && keys_count(&d->shm) == 0 &&
           durable_is_clean(d);
}

static void close_all(struct run *run) {
    struct hearthd *d = &run->d;

    serve_close(d); /* first: it may still look at pools and workers */
    supervise_close(d);
    d->cgroups = cgroups_close(d->cgroups, false); /* without a supervisor */
    bool all_done = d->tasks && is_empty(d);
    tasks_close(d);
    durable_close(d);
    run->loop = loop_close(run->loop);
    for (int i = 0; i < STOP_SIGNALS; i++) {
        if (run->signals[i]) {
            event_free(run->signals[i]);
        }
    }
    if (run->extend) {
        event_free(run->extend);
    }
    if (d->base) {
        event_base_free(d->base);
    }
    if (d->bell_fd >= 0) {
        close(d->bell_fd);
    }
    for (int i = 0; i < 2; i++) {
        if (d->door_fds[i] >= 0) {
            close(d->door_fds[i]);
        }
    }
    keep_close(d, all_done);
    d->config = config_free(d->config);
    free(d->reload_error);
    libevent_global_shutdown();
}

int main(int argc, char **argv) {
    static struct run run;
    struct hearthd *d = &run.d;
    struct options o = {0};

    d->started_ns = clock_now();
    d->started_wall_ms = clock_wall_ms();
    d->bell_fd = d->shm.fd = d->shm.bell_fd = d->door_fds[0] = d->door_fds[1] = -1;
    parse(argc, argv, &o);
    fill_stdio();
    /* Fixed, or the C library would learn from one large request to keep tens of MiB for ever. */
    mallopt(M_MMAP_THRESHOLD, KEEP_BLOCK);
    mallopt(M_TRIM_THRESHOLD, KEEP_FREE);
    if (load_config(&o, &d->config) < 0) {
        d->config = config_free(d->config);
        return 1;
    }
    if (o.check || o.print) {
        if (o.print) {
            config_print(d->config, stdout);
        } else {
            puts("the configuration is good");
        }
        d->config = config_free(d->config);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    log_open(d->config->log_level);
    if (is_root_unasked(d->config)) {
        d->config = config_free(d->config);
        return 1;
    }
    reload_open(d, d->config->files ? d->config->files[0] : NULL, o.socket);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
        log_err(NULL, "cannot become a subreaper: %s", strerror(errno));
        return 1;
    }
    if (cgroups_open(d->config, &d->cgroups) < 0) {
        d->config = config_free(d->config);
        return 1;
    }
    int status = open_all(&run) < 0 ? 1 : run_loop(&run);
    close_all(&run);
    return status;
}
