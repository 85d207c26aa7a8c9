/* SPDX-License-Identifier: MIT */
/* map: one function over files or lines, on hearth_map(), which bounds what is in the daemon and
 * meets a full queue by waiting. Inputs are read when there is room for them, so a map over a
 * million files holds --jobs of them.
 *
 * Results go to standard output as they arrive, each line behind its input's name; or one file each
 * with --out, where the names of the inputs keep their folders, so that many files of one name do
 * not meet. A failed task is told on standard error and does not stop the others. Ctrl-C cancels
 * what is in the daemon.
 *
 * With --split it is another matter, which the daemon does: map_split.c.
 *
 * Fails: the exit status of the tasks that failed if all failed alike, else 1; CTL_LOCAL for
 * files. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

enum { JOBS = 64, JOBS_MAX = 100000, WORKERS_MAX = 256, STOPPED = 1 };

/* An input whose task is in the daemon, or whose result waits for its turn. */
struct input {
    bool used;
    size_t index;
    char *name, *payload;
};

struct worker_count {
    int64_t pid, done;
};

struct map {
    struct ctl *c;
    struct hearth_map map;
    struct ctl_task_words words;
    const char *out;
    bool files, null, plain, quiet, summary, split;
    const char *chunk;
    struct input *inputs; /* map.window of them */
    size_t hint;          /* where to look for a free one */
    uint64_t done, failed, unread, line;
    int status; /* of the failures; -1: of different kinds */
    struct progress progress;
    struct worker_count before[WORKERS_MAX];
    size_t n_before;
    const char **args;
    struct ctl_lines lines;
};

/* ---- inputs ---- */

static struct input *take_input(struct map *m) {
    size_t n = m->map.window;
    for (size_t i = 0; i < n; i++) {
        struct input *in = &m->inputs[(m->hint + i) % n];
        if (!in->used) {
            m->hint = (m->hint + i + 1) % n;
            in->used = true;
            return in;
        }
    }
    return NULL;
}

static struct input *find_input(struct map *m, size_t index) {
    for (size_t i = 0; i < m->map.window; i++) {
        if (m->inputs[i].used && m->inputs[i].index == index) {
            return &m->inputs[i];
        }
    }
    return NULL;
}

static void free_input(struct input *in) {
    free(in->name);
    free(in->payload);
    *in = (struct input){0};
}

static int next_line(struct map *m, char **ret, size_t *ret_len) {
    return ctl_line(&m->lines, m->null ? 0 : '\n', ret, ret_len);
}

/* Fills an input with the next file that can be read. 1, 0 at the end, -EAGAIN. */
static int next_file(struct map *m, struct input *in, size_t *ret_len) {
    for (;;) {
        size_t len;
        if (m->files) {
            int r = next_line(m, &in->name, &len);
            if (r <= 0) {
                return r;
            }
        } else {
            const char *name = ctl_operand(m->c);
            if (!name) {
                return 0;
            }
            in->name = strdup(name);
            if (!in->name) {
                return -ENOMEM;
            }
        }
        progress_clear(&m->progress);
        if (in->name[0] && ctl_read_file(m->c, in->name, &in->payload, ret_len)) {
            return 1;
        }
        m->unread += in->name[0] != 0;
        free(in->name);
        in->name = NULL;
    }
}

static int on_next(void *arg, size_t index, struct hearth_bytes *ret) {
    struct map *m = arg;
    struct input *in = take_input(m);
    if (!in) {
        return -ENOBUFS;
    }
    in->index = index;
    int r;
    if (m->files || m->map.n) {
        r = next_file(m, in, &ret->len);
    } else {
        r = next_line(m, &in->payload, &ret->len);
    }
    ret->data = in->payload;
    if (r <= 0) {
        free_input(in);
    }
    return r;
}

/* ---- results ---- */

static int make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int r = mkdir(path, 0777) < 0 && errno != EEXIST ? -errno : 0;
        *slash = '/';
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* DIR/name.out, with the folders of name below DIR; a step upwards stays below DIR too. */
static int out_path(const struct map *m, const struct input *in, size_t index, struct buf *path) {
    int r = buf_printf(path, "%s/", m->out);
    if (!in->name) {
        return r < 0 ? r : buf_printf(path, "%06zu.out%c", index + 1, 0);
    }
    for (const char *p = in->name; r == 0 && *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && memcmp(p, "..", 2) == 0) {
            r = buf_append(path, "__/", 3);
        } else if (n > 0 && !(n == 1 && *p == '.')) {
            r = buf_append(path, p, n);
            if (r == 0 && p[n]) {
                r = buf_append(path, "/", 1);
            }
        }
        p += n + (p[n] == '/');
    }
    return r < 0 ? r : buf_append(path, ".out", 5);
}

static int write_out(struct map *m, const struct input *in, const struct hearth_result *r,
                     struct buf *path) {
    int e = out_path(m, in, r->index, path);
    if (e == 0) {
        e = make_folders(path->data);
    }
    if (e < 0) {
        return e;
    }
    FILE *f = fopen(path->data, "we");
    if (!f) {
        return -errno;
    }
    bool bad = fwrite(r->data, 1, r->len, f) != r->len;
    return fclose(f) != 0 || bad ? -errno : 0;
}

static void print_json(const struct input *in, const struct hearth_result *r, const char *file) {
    json_result(r, !file);
    printf(",\"index\":%zu", r->index);
    if (in->name) {
        putchar(',');
        json_bytes("name", in->name, strlen(in->name));
    }
    if (file) {
        putchar(',');
        json_bytes("file", file, strlen(file));
    }
    printf("}\n");
}

static void print_failure(struct map *m, const struct input *in, const struct hearth_result *r) {
    char number[32];
    snprintf(number, sizeof(number), "line %zu", r->index + 1);
    ctl_say(m->c, 0, "%s: %s: %s", in->name ? in->name : number, hearth_status_name(r->status),
            r->cause);
}

/* 0 or an error of writing. */
static int print_done(struct map *m, const struct input *in, const struct hearth_result *r) {
    _cleanup_(buf_deinit) struct buf path = BUF_INIT;
    if (m->out) {
        int e = write_out(m, in, r, &path);
        if (e < 0) {
            ctl_say(m->c, 0, "cannot write %s: %s", path.data ? path.data : m->out, strerror(-e));
            return e;
        }
    }
    if (m->c->json) {
        print_json(in, r, path.data);
    } else if (!m->out && m->plain) {
        ctl_print_line(r->data, r->len);
    } else if (!m->out) {
        ctl_print_tagged(in->name ? in->name : in->payload, r->data, r->len);
    }
    return ferror(stdout) ? -EPIPE : 0;
}

static int on_done(void *arg, const struct hearth_result *r) {
    struct map *m = arg;
    struct input *in = find_input(m, r->index);
    if (!in) {
        return -EPROTO;
    }
    m->done++;
    int e = 0;
    if (m->progress.drawn && (r->status != HEARTH_DONE || isatty(STDOUT_FILENO))) {
        progress_clear(&m->progress);
    }
    if (r->status == HEARTH_DONE) {
        e = print_done(m, in, r);
    } else {
        int status = ctl_exit_of(r);
        m->status = m->failed++ == 0 || m->status == status ? status : -1;
        print_failure(m, in, r);
        if (m->c->json) {
            print_json(in, r, NULL);
        }
    }
    free_input(in);
    return e;
}

static int on_tick(void *arg) {
    struct map *m = arg;
    if (ctl_interrupted()) {
        return STOPPED;
    }
    fflush(stdout);
    if (!m->quiet) {
        progress_draw(&m->progress, m->done, m->failed, hearth_pending(m->c->h));
    }
    return ferror(stdout) ? -EPIPE : 0;
}

/* ---- figures ---- */

static const struct hearth_reply *worker_list(struct map *m) {
    const char *words[] = {"WORKER.LIST", "POOL", m->map.task.pool};
    const struct hearth_reply *rows;
    if (hearth_command(m->c->h, 3, words, NULL, &rows) != 0) {
        return NULL;
    }
    return rows;
}

static void count_before(struct map *m) {
    const struct hearth_reply *rows = worker_list(m);
    const struct hearth_reply *row = hearth_reply_first(rows);
    size_t n = hearth_reply_type(rows) == HEARTH_REPLY_ARRAY ? hearth_reply_count(rows) : 0;
    for (; n > 0 && m->n_before < WORKERS_MAX; n--, row = hearth_reply_next(row)) {
        m->before[m->n_before++] = (struct worker_count){
            hearth_reply_int(hearth_reply_get(row, "pid")),
            hearth_reply_int(hearth_reply_get(row, "tasks_done")),
        };
    }
}

static int64_t before_of(const struct map *m, int64_t pid) {
    for (size_t i = 0; i < m->n_before; i++) {
        if (m->before[i].pid == pid) {
            return m->before[i].done;
        }
    }
    return 0;
}

static void summarize(struct map *m, uint64_t took) {
    double seconds = (double)took / 1e9;
    progress_clear(&m->progress);
    fprintf(stderr, "\n%-10s %10llu\n%-10s %10llu\n%-10s %10.3f s\n%-10s %10.0f tasks/s\n", "tasks",
            (unsigned long long)m->done, "failed", (unsigned long long)m->failed, "time", seconds,
            "rate", seconds > 0 ? (double)m->done / seconds : 0);
    if (m->unread) {
        fprintf(stderr, "%-10s %10llu\n", "not read", (unsigned long long)m->unread);
    }
    const struct hearth_reply *rows = worker_list(m);
    size_t n = hearth_reply_type(rows) == HEARTH_REPLY_ARRAY ? hearth_reply_count(rows) : 0;
    const struct hearth_reply *row = hearth_reply_first(rows);
    if (n > 0) {
        fprintf(stderr, "\n%-10s %10s\n", "worker", "tasks");
    }
    for (; n > 0; n--, row = hearth_reply_next(row)) {
        int64_t pid = hearth_reply_int(hearth_reply_get(row, "pid"));
        int64_t done = hearth_reply_int(hearth_reply_get(row, "tasks_done"));
        fprintf(stderr, "%-10lld %10lld\n", (long long)pid, (long long)(done - before_of(m, pid)));
    }
}

/* ---- the command ---- */

static int set_option(struct map *m, int o) {
    struct ctl *c = m->c;
    uint64_t n;
    switch (o) {
    case 'f':
        m->files = true;
        break;
    case '0':
        m->null = true;
        break;
    case 'k':
        m->map.ordered = 1;
        break;
    case 'o':
        m->out = c->value;
        break;
    case 'p':
        m->plain = true;
        break;
    case CTL_SPLIT:
        m->split = true;
        break;
    case CTL_CHUNK:
        m->chunk = c->value;
        return ctl_count(c, c->value, UINT64_MAX, &n) ? CTL_OK : CTL_USAGE;
    case 'S':
        m->summary = true;
        break;
    case 'q':
        m->quiet = true;
        break;
    case 'a':
        m->args[m->map.task.n_args++] = c->value;
        break;
    case 't':
        return ctl_duration(c, c->value, &m->map.task.timeout_ms) ? CTL_OK : CTL_USAGE;
    case CTL_PRIORITY ... CTL_MEMORY:
        return ctl_task_option(c, o, &m->words, &m->map.task) ? CTL_OK : CTL_USAGE;
    default:
        if (!ctl_count(c, c->value, JOBS_MAX, &n)) {
            return CTL_USAGE;
        }
        m->map.window = n;
    }
    return CTL_OK;
}

/* Takes options up to the next operand. CTL_STOP: return c->status. */
static int parse_options(struct map *m) {
    struct ctl *c = m->c;
    int o;
    while ((o = ctl_option(c)) > 0) {
        c->status = set_option(m, o);
        if (c->status != CTL_OK) {
            return CTL_STOP;
        }
    }
    return o;
}

/* Options may stand anywhere; what is left in c->argv are the files. CTL_STOP: return c->status. */
static int parse(struct map *m) {
    struct ctl *c = m->c;
    if (parse_options(m) == CTL_STOP) {
        return CTL_STOP;
    }
    if (!ctl_target(c, (char *)ctl_operand(c), &m->map.task)) {
        c->status = CTL_USAGE;
        return CTL_STOP;
    }
    char **files = c->argv; /* operands move down over the options that were among them */
    size_t n = 0;
    const char *file;
    do {
        if (parse_options(m) == CTL_STOP) {
            return CTL_STOP;
        }
        file = ctl_operand(c);
        if (file) {
            files[n++] = (char *)file;
        }
    } while (file);
    c->argv = files;
    c->argc = (int)n;
    m->map.n = n;
    m->map.task.args = m->args;
    if (m->split ? m->files || m->out || n > 1 : m->chunk != NULL) {
        c->status =
            ctl_usage(c, "--split takes one input, no --files and no --out; --chunk goes with it");
        return CTL_STOP;
    }
    if (m->files && n > 0) {
        c->status =
            ctl_usage(c, "--files takes the names from standard input, not from the command line");
        return CTL_STOP;
    }
    return 0;
}

static int end_status(const struct map *m, int r) {
    if (r == STOPPED) {
        return CTL_INTERRUPTED;
    }
    if (r != 0) {
        return r == HEARTH_E_DISCONNECTED || r == HEARTH_E_PROTOCOL ? CTL_CONNECT : CTL_LOCAL;
    }
    if (m->failed) {
        return m->status < 0 ? CTL_FAILED : m->status;
    }
    return m->unread ? CTL_LOCAL : CTL_OK;
}

static int run(struct map *m) {
    struct ctl *c = m->c;
    bool terminal = isatty(STDERR_FILENO) == 1;
    m->summary = !m->quiet && (m->summary || terminal);
    if (m->summary) {
        count_before(m);
    }
    ctl_catch_signals();
    signal(SIGPIPE, SIG_IGN);
    progress_begin(&m->progress, m->map.n);
    uint64_t begin = clock_now();
    int r = hearth_map(c->h, &m->map);
    uint64_t took = clock_now() - begin;
    fflush(stdout);
    progress_clear(&m->progress);
    if (r != 0 && r != STOPPED && r != -EPIPE) {
        ctl_say(c, 0, "%s", hearth_strerror(r));
    }
    if (m->summary && r != HEARTH_E_DISCONNECTED) {
        summarize(m, took);
    }
    return end_status(m, r);
}

int cmd_map(struct ctl *c) {
    struct map m = {.c = c,
                    .map = {.next = on_next,
                            .done = on_done,
                            .tick = on_tick,
                            .tick_ms = 100,
                            .window = JOBS,
                            .input_fd = STDIN_FILENO}};
    m.map.arg = &m;
    _cleanup_free_ const char **args = calloc((size_t)c->argc + 1, sizeof(*args));
    m.args = args;
    int status = CTL_LOCAL;
    if (args && parse(&m) == CTL_STOP) {
        return c->status;
    }
    if (args && m.split) {
        return ctl_map_split(c, &(struct ctl_map_split){.task = &m.map.task,
                                                        .file = m.map.n ? c->argv[0] : "-",
                                                        .chunk = m.chunk,
                                                        .null = m.null});
    }
    m.inputs = calloc(m.map.window, sizeof(*m.inputs));
    if (!args || !m.inputs) {
        ctl_say(c, 0, "out of memory");
    } else {
        status = ctl_connect(c);
        if (status == CTL_OK) {
            status = run(&m);
        }
    }
    for (size_t i = 0; m.inputs && i < m.map.window; i++) {
        free_input(&m.inputs[i]);
    }
    free(m.inputs);
    free(m.lines.data);
    return status;
}
