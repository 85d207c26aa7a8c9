/* SPDX-License-Identifier: MIT */
/* The benchmark `peers`: Hearth beside what one would otherwise run work with, as one table of ratios.
 *
 * The peers are Python's multiprocessing.Pool and ProcessPoolExecutor, gearmand, Redis lists, beanstalkd and the task
 * spooler; each with two workers, as Hearth has here. They are all there at once, idle but for the one that is measured, and
 * every row is measured on one after the other, turn for turn: what else the machine does meets all of them. A ratio is the
 * median of the turns' ratios. Times on a loaded machine say little, so a second table holds the CPU time that all processes
 * of a peer, its client included, took for one task; not for commands, whose processes have ended by then.
 *
 * Hearth keeps accounts of each task, can cancel it, ends it with a cause when its worker dies; the peers do what they do
 * by default, the queues not even that: no acknowledgement is waited for.
 *
 * With arguments only the rows named are measured: call, flight, map, each, large, command, queued. Ends its turns after a time that is given; what is not installed is said and left out.
 *
 * Fails: exit status 1 when something does not work. A row in which Hearth is behind is marked, no failure. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/peers.h"
#include "tests/bench/proc.h"
#include "tests/bench/tasks.h"
#include "tests/support/child.h"

static const struct {
    const char *name; /* for peers.py */
    const char *what;
    unsigned full, quick;
} rows[PEER_ROWS] = {
    [ROW_CALL] = {"call", "no-op call, one at a time", 3000, 20},
    [ROW_FLIGHT] = {"flight", "no-ops, 32 under way", 4000, 100},
    [ROW_MAP] = {"map", "map of 20,000 no-ops, in pieces", 20000, 200},
    [ROW_EACH] = {"each", "map of 4,000 no-ops, a task for each", 4000, 100},
    [ROW_LARGE] = {"large", "1 MiB there and back", 20, 2},
    [ROW_COMMAND] = {"command", "/bin/true, from the command line", 10, 2},
    [ROW_QUEUED] = {"queued", "/bin/true, 32 under way or queued", 60, 8},
};

enum { TURNS = 7, TURNS_SECONDS = 80 };

/* Runs a program that must succeed. */
static int run_quietly(const char *const argv[], const char *const env[]) {
    struct child_output out;
    int r = child_run(argv, env, NULL, 0, &out);
    if (r < 0) {
        return r;
    }
    r = out.status == 0 ? 0 : out.status == 127 ? -ENOENT : -EIO;
    child_output_deinit(&out);
    return r;
}

/* ---- Hearth ---- */

struct ours {
    struct site site;
    char env[TMP_PATH + 64];
    struct hearth_task task;
    char *large;
    unsigned n, submitted, ended, wrong;
};

static void ended(struct hearth *h, const struct hearth_result *result, void *arg) {
    struct ours *o = arg;
    o->ended++;
    o->wrong += result->status != HEARTH_DONE;
    if (o->submitted < o->n && hearth_submit(h, &o->task, ended, o, NULL) == 0) {
        o->submitted++;
    }
}

static int mapped(void *arg, const struct hearth_result *result) {
    struct ours *o = arg;
    o->ended++;
    o->wrong += result->status != HEARTH_DONE;
    return 0;
}

static int stream(struct ours *o, unsigned n) {
    int r = 0;
    for (o->n = n; o->submitted < n && o->submitted < PEER_FLIGHT && r == 0; o->submitted++) {
        r = hearth_submit(o->site.h, &o->task, ended, o, NULL);
    }
    return r ? r : hearth_run(o->site.h, PEER_LIMIT_MS);
}

static int map(struct ours *o, unsigned n) {
    struct hearth_bytes *payloads = calloc(n, sizeof(*payloads));
    struct hearth_map m = {
        .task = o->task, .payloads = payloads, .n = n, .done = mapped, .arg = o, .ordered = 1};
    int r = payloads ? hearth_map(o->site.h, &m) : -ENOMEM;
    free(payloads);
    return r;
}

/* One payload of n lines, which the daemon splits; each piece of it comes back as it was. */
static int split_map(struct ours *o, unsigned n) {
    enum { LINE = 2, CHUNKS = 64 };
    char *text = malloc((size_t)n * LINE);
    char ids[CHUNKS][64];
    const struct hearth_reply *reply;
    const char *words[] = {"TASK.MAP", "demo", "echo", text};
    const size_t lens[] = {8, 4, 4, (size_t)n * LINE};
    for (unsigned i = 0; text && i < n; i++) {
        memcpy(text + (size_t)i * LINE, "x\n", LINE);
    }
    int r = text ? hearth_command(o->site.h, 4, words, lens, &reply) : -ENOMEM;
    free(text);
    size_t chunks = r ? 0 : hearth_reply_count(reply), bytes = 0;
    if (r == 0 && (chunks == 0 || chunks > CHUNKS)) {
        return -EBADMSG;
    }
    const struct hearth_reply *id = r ? NULL : hearth_reply_first(reply);
    for (size_t i = 0; i < chunks; i++, id = hearth_reply_next(id)) {
        snprintf(ids[i], sizeof(ids[i]), "%s", hearth_reply_text(id, NULL));
    }
    for (size_t i = 0; i < chunks && r == 0; i++) {
        const char *wait[] = {"TASK.WAIT", ids[i]};
        r = hearth_command(o->site.h, 2, wait, NULL, &reply);
        const struct hearth_reply *e = r ? NULL : hearth_reply_first(reply);
        for (int k = 0; k < 2 && e; k++) {
            e = hearth_reply_next(e); /* id, status, result */
        }
        size_t len = 0;
        hearth_reply_text(e, &len);
        bytes += len;
    }
    o->ended = (unsigned)(bytes / LINE);
    return r;
}

static int ours_run(struct peer *p, enum peer_row row, unsigned n) {
    struct ours *o = p->state;
    static const char *const args[] = {"/bin/true"};
    const char *const env[] = {o->env, NULL};
    const char *const argv[] = {getenv("HEARTH_CTL"), "call", "shell.run", "/bin/true", NULL};
    o->submitted = o->ended = o->wrong = 0;
    o->task = (struct hearth_task){.pool = "demo", .handler = "echo"};
    if (row == ROW_QUEUED) {
        o->task =
            (struct hearth_task){.pool = "shell", .handler = "run", .args = args, .n_args = 1};
    } else if (row == ROW_LARGE) {
        o->task.payload = o->large;
        o->task.payload_len = PEER_LARGE;
    }
    int r = 0;
    if (row == ROW_FLIGHT || row == ROW_QUEUED || row == ROW_MAP || row == ROW_EACH) {
        r = row == ROW_MAP ? split_map(o, n) : row == ROW_EACH ? map(o, n) : stream(o, n);
        return r ? r : o->wrong || o->ended != n ? -EBADMSG : 0;
    }
    for (unsigned i = 0; i < n && r == 0; i++) {
        r = row == ROW_COMMAND ? run_quietly(argv, env)
                               : site_call(&o->site, &o->task, o->task.payload_len);
    }
    return r;
}

static void ours_close(struct peer *p) {
    struct ours *o = p->state;
    site_close(&o->site);
    free(o->large);
    free(o);
    p->state = NULL;
}

static int ours_open(struct peer *p) {
    struct ours *o = calloc(1, sizeof(*o));
    p->state = o;
    int r = o && (o->large = calloc(1, PEER_LARGE)) && getenv("HEARTH_CTL") ? 0 : -EINVAL;
    r = r ? r : site_open(&o->site, site_config);
    if (r != 0) {
        return r < 0 ? r : -EIO;
    }
    snprintf(o->env, sizeof(o->env), "HEARTH_SOCKET=%s", o->site.daemon.socket);
    p->pids[0] = o->site.daemon.pid;
    return 1;
}

/* ---- Python: one process that does what it is told ---- */

struct python {
    FILE *to, *from;
};

static int python_run(struct peer *p, enum peer_row row, unsigned n) {
    struct python *y = p->state;
    char line[16];
    fprintf(y->to, "%s %u\n", rows[row].name, n);
    if (fflush(y->to) != 0 || !fgets(line, sizeof(line), y->from)) {
        return -EIO;
    }
    return strcmp(line, "ok\n") == 0 ? 0 : -ENOTSUP;
}

static void python_close(struct peer *p) {
    struct python *y = p->state;
    fclose(y->to); /* which ends it */
    child_wait(p->pids[0]);
    fclose(y->from);
    free(y);
    p->state = NULL;
}

static int python_open(struct peer *p) {
    const char *source = getenv("HEARTH_SOURCE");
    char script[4096];
    snprintf(script, sizeof(script), "%s/tests/bench/peers.py", source ? source : ".");
    const char *const argv[] = {"python3", script, p->kind, NULL};
    const char *const version[] = {"python3", "--version", NULL};
    int in[2], out[2];
    if (run_quietly(version, NULL) < 0) {
        return 0;
    }
    struct python *y = calloc(1, sizeof(*y));
    if (!y || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
        return -ENOMEM;
    }
    p->pids[0] = child_exec(argv, NULL, in[0], out[1], STDERR_FILENO);
    close(in[0]);
    close(out[1]);
    y->to = fdopen(in[1], "w");
    y->from = fdopen(out[0], "r");
    p->state = y;
    return p->pids[0] < 0 ? p->pids[0] : 1;
}

/* ---- the task spooler: there is only its command ---- */

struct spooler {
    char dir[TMP_PATH], socket[TMP_PATH + 32], tmp[TMP_PATH + 32];
    int fd; /* a connection, which ends with the server */
    pid_t pid;
};

/* Who ends us ends it too; all else here dies with its parent. */
static volatile pid_t spooler;

static void on_signal(int sig) {
    if (spooler > 0) {
        kill(spooler, SIGKILL);
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

static int tsp(struct spooler *s, const char *a, const char *b) {
    const char *const env[] = {s->socket, s->tmp, "TS_SLOTS=2", NULL};
    const char *const argv[] = {"tsp", a, b, NULL};
    return run_quietly(argv, env);
}

static int tsp_run(struct peer *p, enum peer_row row, unsigned n) {
    int r = row == ROW_COMMAND || row == ROW_QUEUED ? 0 : -ENOTSUP;
    for (unsigned i = 0; i < n && r == 0; i++) {
        /* Who waits for the last one has waited for all that were queued before. */
        r = tsp(p->state, row == ROW_COMMAND || i == n - 1 ? "-nf" : "-n", "/bin/true");
    }
    return r;
}

static void tsp_close(struct peer *p) {
    struct spooler *s = p->state;
    if (s->fd >= 0) {
        struct pollfd f = {.fd = s->fd, .events = POLLIN};
        tsp(s, "-K", NULL);
        if (poll(&f, 1, PEER_LIMIT_MS) <= 0) {
            kill(s->pid, SIGKILL);
        }
        spooler = 0;
        close(s->fd);
    }
    tmp_remove(s->dir);
    free(s);
    p->state = NULL;
}

/* Its first command leaves a server behind, which is not our child: a connection tells its pid, and later its end. */
static int tsp_open(struct peer *p) {
    struct spooler *s = calloc(1, sizeof(*s));
    int r = s ? tmp_dir(s->dir) : -ENOMEM;
    if (r < 0) {
        free(s);
        return r;
    }
    s->fd = -1;
    p->state = s;
    snprintf(s->socket, sizeof(s->socket), "TS_SOCKET=%s/socket", s->dir);
    snprintf(s->tmp, sizeof(s->tmp), "TMPDIR=%s", s->dir);
    r = tsp(s, "-nf", "/bin/true");
    if (r == 0) {
        struct sockaddr_un u = {.sun_family = AF_UNIX};
        struct ucred peer;
        socklen_t len = sizeof(peer);
        snprintf(u.sun_path, sizeof(u.sun_path), "%s", strchr(s->socket, '=') + 1);
        s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        r = s->fd < 0 || connect(s->fd, (struct sockaddr *)&u, sizeof(u)) < 0 ||
                    getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0
                ? -errno
                : 0;
        spooler = s->pid = r == 0 ? peer.pid : 0;
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        signal(SIGHUP, on_signal);
    }
    if (r < 0) {
        tsp_close(p);
    }
    return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* ---- measuring ---- */

static struct peer peers[] = {
    {"hearth", ours_open, ours_run, ours_close, NULL, NULL, {0}},
    {"Pool", python_open, python_run, python_close, "pool", NULL, {0}},
    {"Executor", python_open, python_run, python_close, "executor", NULL, {0}},
    {"gearmand", queue_open, queue_run, queue_shut, &queue_gearmand, NULL, {0}},
    {"redis", queue_open, queue_run, queue_shut, &queue_redis, NULL, {0}},
    {"beanstalkd", queue_open, queue_run, queue_shut, &queue_beanstalkd, NULL, {0}},
    {"tsp", tsp_open, tsp_run, tsp_close, NULL, NULL, {0}},
};
enum { PEERS = ARRAY_SIZE(peers) };

static struct bench_samples wall[PEER_ROWS][PEERS], cpu[PEER_ROWS][PEERS];

/* CPU time in us of a process and all below it so far. */
static double cpu_of(pid_t pid) {
    pid_t below[64];
    clockid_t id;
    struct timespec t = {0};
    if (pid <= 0 || clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &t) != 0) {
        return 0;
    }
    double us = (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
    size_t n = proc_children(pid, below, ARRAY_SIZE(below));
    for (size_t i = 0; i < n; i++) {
        us += cpu_of(below[i]);
    }
    return us;
}

static double cpu_of_peer(const struct peer *p) {
    struct timespec t = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    double us = (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
    for (size_t i = 0; i < ARRAY_SIZE(p->pids); i++) {
        us += cpu_of(p->pids[i]);
    }
    return us;
}

static int measure(unsigned row, unsigned peer) {
    struct peer *p = &peers[peer];
    unsigned n = bench_count(rows[row].full, rows[row].quick);
    int r = p->run(p, row, n / 10 + 1);
    if (r == -ENOTSUP) {
        return 0;
    }
    double before = cpu_of_peer(p);
    uint64_t t = clock_now();
    r = r ? r : p->run(p, row, n);
    if (r != 0) {
        fprintf(stderr, "%s, %s: ", p->name, rows[row].what);
        return bench_failed("a peer", r);
    }
    bench_add(&wall[row][peer], bench_seconds(t) * 1e6 / n);
    if (row != ROW_COMMAND && row != ROW_QUEUED) {
        bench_add(&cpu[row][peer], (cpu_of_peer(p) - before) / n);
    }
    return 0;
}

/* Names of rows; NULL: all of them. */
static char **only;

static bool is_wanted(unsigned row) {
    bool wanted = !only;
    for (char **name = only; name && *name; name++) {
        wanted |= strcmp(*name, rows[row].name) == 0;
    }
    return wanted;
}

static unsigned turns_done;

static int measure_all(void) {
    uint64_t begin = clock_now();
    int r = 0;
    unsigned turn = 0, turns = bench_count(TURNS, 1);
    for (; turn < turns && r == 0 && bench_seconds(begin) < TURNS_SECONDS; turn++) {
        for (unsigned row = 0; row < PEER_ROWS; row++) {
            for (unsigned i = 0; i < PEERS && r == 0; i++) {
                r = peers[i].state && is_wanted(row) ? measure(row, i) : 0;
            }
        }
    }
    turns_done = turn;
    return r;
}

/* One line for each row: our figure, then how many times as much each peer needs. */
static void print_table(const char *title, struct bench_samples table[PEER_ROWS][PEERS]) {
    unsigned behind = 0;
    printf("\n%-42s %10s", title, "hearth, us");
    for (unsigned i = 1; i < PEERS; i++) {
        printf(" %11s", peers[i].name);
    }
    for (unsigned row = 0; row < PEER_ROWS; row++) {
        if (table[row][0].n == 0) {
            continue;
        }
        printf("\n%-42s %10.1f", rows[row].what, bench_median(&table[row][0]));
        for (unsigned i = 1; i < PEERS; i++) {
            double ratio = bench_ratio(&table[row][i], &table[row][0]);
            char text[32] = "-";
            if (ratio > 0) {
                snprintf(text, sizeof(text), "%s%.2fx", ratio < 1 ? "! " : "", ratio);
                behind += ratio < 1;
            }
            printf(" %11s", text);
        }
    }
    printf("\n");
    if (behind > 0) {
        printf("    ! Hearth is behind: %u\n", behind);
    }
    fflush(stdout);
}

static void print_heading(void) {
    double load[1] = {0};
    getloadavg(load, 1);
    printf("\nHearth beside its peers, two workers each: how many times longer a peer takes\n");
    bench_note("%u turns on %ld CPUs, load %.1f; `chrt -r 1` before it keeps the load out",
               turns_done, sysconf(_SC_NPROCESSORS_ONLN), load[0]);
}

int main(int argc, char **argv) {
    int r = 0;
    only = argc > 1 ? argv + 1 : NULL;
    for (unsigned i = 0; i < PEERS && r >= 0; i++) {
        r = peers[i].open(&peers[i]);
        if (r < 0) {
            bench_failed(peers[i].name, r);
        } else if (r == 0) {
            bench_note("%s: not installed, left out", peers[i].name);
        }
        if (r != 1) {
            peers[i].state = NULL;
        }
    }
    r = r < 0 ? r : measure_all();
    /* The last first: workers that were forked later have the earlier ones' pipes. */
    for (unsigned i = PEERS; i-- > 0;) {
        if (peers[i].state) {
            peers[i].close(&peers[i]);
        }
    }
    child_kill_all();
    if (r == 0) {
        print_heading();
        print_table("Time", wall);
        if (is_wanted(ROW_MAP)) {
            bench_note(
                "the first map: Python sends an eighth of it at a time and calls a function for "
                "each; TASK.MAP splits one payload, and a handler has a piece at once");
        }
        print_table("CPU time, all processes", cpu);
    }
    return r ? 1 : 0;
}
