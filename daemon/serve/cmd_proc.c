/* SPDX-License-Identifier: MIT */
/* PROC.*: processes that the daemon starts and watches for clients (daemon/proc.h).
 *
 * Everybody may see them and wait for their ends, as for tasks. Starting, signalling and reading what they wrote is the
 * role proc, and another user's are the administrators'.
 *
 * The words of PROC.START are read once, into a struct proc_spec whose strings lie in one copy of the request, since words of a
 * request have no NUL behind them. Descriptors are taken off the connection's queue as they are named, also when the command
 * is refused, so that the next one does not get them. What follows HANDLER is read as TASK.SUBMIT's words are: that is a task, which
 * is held for the process (supervise/proc_handler.c), and whose end PROC.WAIT tells besides the process's.
 *
 * Fails: replies. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/proc.h"
#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/end.h"
#include "daemon/serve/passed.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "daemon/serve/submit.h"
#include "lib/base/cleanup.h"
#include "lib/base/num.h"

/* A word of a command may have 128 KiB with its NUL, for the kernel's sake. */
enum { INFO_FIELDS = 25, END_FIELDS = 3, COMMAND_TEXT = 1024, WORD_MAX = 128 * 1024 - 1 };

/* ---- the words of PROC.START ---- */

struct starting {
    struct conn *c;
    const struct resp_arg *argv;
    uint32_t argc, at;
    struct proc_spec spec;
    int fds[3];
    bool owned;
    bool bad;   /* a word cannot be one of a command's */
    char *text; /* the words that were read, each with a NUL behind it; room for all */
    char *text_at;
    const char **words;
    struct submit_words task; /* with HANDLER: task.pool is not NULL */
    char show[160];
    const char *show_words[2];
    const char **env_out;
    uint32_t n_env;
};

/* The next word; NULL: there is none. */
static const char *word(struct starting *k) {
    if (k->at == k->argc) {
        return NULL;
    }
    const struct resp_arg *a = &k->argv[k->at];
    const char **w = &k->words[k->at++];
    *w = "";
    if (a->len > WORD_MAX || memchr(a->data, '\0', a->len)) {
        k->bad = true;
    } else {
        *w = k->text_at;
        k->text_at = (char *)mempcpy(k->text_at, a->data, a->len);
        *k->text_at++ = '\0';
    }
    return *w;
}

static bool refuse(struct starting *k, const char *text) {
    reply_error(k->c, text);
    return false;
}

static bool number(struct starting *k, uint64_t max, uint32_t *ret) {
    uint64_t v;
    const char *text = word(k);
    if (!text || num_u64(text, strlen(text), &v) < 0 || v > max) {
        return refuse(k, "ERR value is not an integer or out of range");
    }
    *ret = (uint32_t)v;
    return true;
}

static bool read_name(struct starting *k) {
    const char *ok = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    const char *name = word(k);
    size_t n = name ? strlen(name) : 0;
    if (n == 0 || n > PROC_NAME_MAX || strspn(name, ok) != n || (*name >= '0' && *name <= '9')) {
        return refuse(k, "ERR a name has 1 to 64 of A-Z, a-z, 0-9, _, - and ., and no digit first");
    }
    k->spec.name = name;
    return true;
}

static bool read_restart(struct starting *k) {
    const char *text = word(k);
    for (int i = 0; text && i < PROC_RESTARTS; i++) {
        if (strcasecmp(text, proc_restart_names[i]) == 0) {
            k->spec.restart = (enum proc_restart)i;
            return true;
        }
    }
    return refuse(k, "ERR RESTART is never, on-failure or always");
}

static bool read_fd(struct starting *k, bool null) {
    uint32_t n;
    if (!number(k, 2, &n)) {
        return false;
    }
    if (k->fds[n] >= 0 || k->spec.null[n]) {
        return refuse(k, "ERR a descriptor is named twice");
    }
    k->spec.null[n] = null;
    if (!null && (k->fds[n] = passed_take(k->c)) < 0) {
        return refuse(k, k->c->passed ? "ERR a descriptor was not sent along"
                                      : "ERR PROC.PASS comes before descriptors are sent along");
    }
    return true;
}

static bool read_env(struct starting *k) {
    const char *text = word(k);
    if (!text || *text == '=' || !strchr(text, '=')) {
        return refuse(k, "ERR ENV takes NAME=value");
    }
    k->env_out[k->n_env++] = text;
    return true;
}

static bool read_dir(struct starting *k) {
    k->spec.directory = word(k);
    return (k->spec.directory && *k->spec.directory == '/') ||
           refuse(k, "ERR DIR takes an absolute path");
}

static bool read_option(struct starting *k, const char *name) {
    if (strcasecmp(name, "NAME") == 0) {
        return read_name(k);
    } else if (strcasecmp(name, "DIR") == 0) {
        return read_dir(k);
    } else if (strcasecmp(name, "ENV") == 0) {
        return read_env(k);
    } else if (strcasecmp(name, "FD") == 0 || strcasecmp(name, "NULL") == 0) {
        return read_fd(k, strcasecmp(name, "NULL") == 0);
    } else if (strcasecmp(name, "RESTART") == 0) {
        return read_restart(k);
    } else if (strcasecmp(name, "BACKOFF") == 0) {
        return number(k, 86400000, &k->spec.backoff_ms);
    } else if (strcasecmp(name, "MAX") == 0) {
        return number(k, 1000000, &k->spec.max_restarts) && number(k, 86400000, &k->spec.window_ms);
    } else if (strcasecmp(name, "STOP") == 0) {
        return number(k, 86400000, &k->spec.stop_ms);
    } else if (strcasecmp(name, "OWNED") == 0) {
        k->owned = true;
        return true;
    }
    reply_syntax(k->c);
    return false;
}

/* Room for copies of the words. */
static bool make_room(struct starting *k) {
    size_t bytes = 1;
    for (uint32_t i = 0; i < k->argc; i++) {
        bytes += k->argv[i].len <= WORD_MAX ? k->argv[i].len + 1 : 0;
    }
    k->words = calloc(3 * (size_t)k->argc + 3, sizeof(*k->words));
    k->text = k->text_at = malloc(bytes);
    if (!k->words || !k->text) {
        return refuse(k, "OOM the daemon is out of memory");
    }
    k->env_out = k->words + k->argc + 1;
    return true;
}

/* COMMAND word...: the rest of the words; a NULL follows the last one. */
static bool read_command(struct starting *k) {
    k->spec.argv = k->words + k->at;
    for (uint32_t i = k->at; i < k->argc; i++) {
        word(k);
    }
    if (!k->spec.argv[0] || (k->spec.argv[0][0] == '\0' && !k->bad)) {
        reply_syntax(k->c);
        return false;
    }
    return true;
}

/* HANDLER pool handler payload [ARG arg]...: the rest of the words, which may be any bytes. */
static bool read_handler(struct starting *k) {
    struct submit_words *w = &k->task;
    if (k->argc - k->at < 3) {
        reply_syntax(k->c);
        return false;
    }
    const struct resp_arg *argv = &k->argv[k->at - 1];
    if (!submit_parse(k->c, argv, k->argc - k->at + 1, 4, w)) {
        w->pool = NULL;
        return false;
    }
    const struct pool_config *c = w->pool->config;
    if (w->policy.set || w->last || w->stream || w->spec.priority != c->priority ||
        w->spec.timeout_ms != c->timeout_ms) {
        return refuse(k, "ERR the task of a process has no options but ARG");
    }
    if (c->kind != POOL_MODULE) {
        return refuse(k, "ERR it is not a pool of a module: start its command");
    }
    if (c->durable) { /* a later daemon would give the task to a worker */
        return refuse(k, "ERR tasks of this pool are durable, and a process's task is not");
    }
    if (k->spec.restart != PROC_NEVER) {
        return refuse(k, "ERR a handler has one task, so it is not started again");
    }
    w->spec.payload = (struct task_bytes){argv[3].data, argv[3].len};
    w->spec.hold = true;
    w->spec.timeout_ms = 0;
    w->spec.client = 0;
    snprintf(k->show, sizeof(k->show), "%s.%.*s", c->name, (int)argv[2].len, argv[2].data);
    k->show_words[0] = k->show;
    k->spec.argv = k->show_words;
    k->spec.pool = w->pool;
    if (!k->spec.directory) {
        k->spec.directory = c->working_directory;
    }
    return true;
}

static bool read_start(struct starting *k) {
    bool (*rest)(struct starting * k) = NULL;
    if (k->argc > PROC_WORDS_MAX) {
        return refuse(k, "ERR a command has up to 4096 words");
    }
    if (!make_room(k)) {
        return false;
    }
    for (k->at = 1; k->at < k->argc && !rest;) {
        const char *name = word(k);
        rest = strcasecmp(name, "COMMAND") == 0   ? read_command
               : strcasecmp(name, "HANDLER") == 0 ? read_handler
                                                  : NULL;
        if (!rest && !read_option(k, name)) {
            return false;
        }
    }
    if (!rest) {
        reply_syntax(k->c);
        return false;
    }
    if (!rest(k)) {
        return false;
    }
    if (k->bad) {
        return refuse(k, "ERR a word of a command has no NUL in it, and up to 131071 bytes");
    }
    if (!k->spec.directory) {
        k->spec.directory = "/";
    }
    k->spec.env = k->env_out;
    return true;
}

/* True: there is a task, or none is wanted. */
static bool submit(struct starting *k) {
    struct task_ref ref;
    if (!k->task.pool) {
        return true;
    }
    int r = submit_new(k->c, &k->task, &ref);
    if (r == -EAGAIN) { /* not to be tried again: its descriptors have been taken */
        return refuse(k, "BUSY the shared memory is locked just now: try again");
    }
    if (r < 0) {
        submit_refused(k->c, k->task.pool, r);
        return false;
    }
    k->spec.task = ref.idx;
    k->spec.task_id = ref.id;
    return true;
}

static void reply_task(struct conn *c, const struct proc *p) {
    char id[TASK_ID_TEXT] = "";
    if (p->spec.pool) {
        task_id_text(id, p->spec.task_id, p->spec.task);
    }
    reply_field_text(c, "task", id);
}

static void start(struct starting *k) {
    struct hearthd *d = k->c->serve->d;
    char why[128];
    struct proc *p;
    if (d->stopping) {
        reply_error(k->c, "ERR the daemon is stopping");
        return;
    }
    if (!submit(k)) {
        return;
    }
    int r = proc_start(d, &k->spec, k->fds, k->c->uid, k->owned ? k->c->id : 0, &p, why);
    if (r < 0 && k->task.pool) {
        tasks_abandon(d, k->spec.task);
    }
    if (r == -EEXIST) {
        reply_errorf(k->c, "EXISTS %s", why);
    } else if (r == -EDQUOT) {
        reply_errorf(k->c, "QUOTA %s", why);
    } else if (r < 0) {
        reply_errorf(k->c, "ERR it cannot be started: %s", why);
    } else {
        k->c->owns_procs |= k->owned;
        reply_map(k->c, k->task.pool ? 3 : 2);
        reply_text(k->c, "id");
        reply_textf(k->c, "%llu", (unsigned long long)p->id);
        reply_field_int(k->c, "pid", p->pid);
        if (k->task.pool) {
            reply_task(k->c, p);
        }
    }
}

int cmd_PROC_START(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct starting k = {
        .c = c,
        .argv = argv,
        .argc = argc,
        .fds = {-1, -1, -1},
        .spec = {.name = "",
                 .backoff_ms = PROC_BACKOFF_MS,
                 .window_ms = PROC_WINDOW_MS,
                 .stop_ms = PROC_STOP_MS},
    };
    if (read_start(&k)) {
        start(&k);
    }
    for (int i = 0; i < 3; i++) {
        if (k.fds[i] >= 0) {
            close(k.fds[i]);
        }
    }
    free(k.words);
    free(k.text);
    return 0;
}

int cmd_PROC_PASS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    if (passed_open(c) < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    } else {
        reply_ok(c);
    }
    return 0;
}

/* ---- the others ---- */

static struct proc *proc_arg(struct conn *c, const struct resp_arg *a) {
    struct proc *p = proc_find(c->serve->d, a->data, a->len);
    if (!p) {
        reply_error(c, "NOPROC there is no such process");
    }
    return p;
}

/* One that the user may meddle with. */
static struct proc *own_proc(struct conn *c, const struct resp_arg *a, const char *command) {
    struct proc *p = proc_arg(c, a);
    if (p && p->uid != c->uid && !(c->roles & ROLE_ADMIN)) {
        roles_refuse(c, command);
        return NULL;
    }
    return p;
}

static void reply_command(struct conn *c, const struct proc *p) {
    char text[COMMAND_TEXT];
    size_t n = 0;
    for (const char *const *w = p->spec.argv; *w && n < sizeof(text) - 1; w++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? " " : "", *w);
    }
    reply_text(c, "command");
    reply_bulk(c, text, n < sizeof(text) ? n : sizeof(text) - 1);
}

static uint64_t us_of(const struct timeval *tv) {
    return (uint64_t)tv->tv_sec * 1000000 + (uint64_t)tv->tv_usec;
}

static void reply_fields(struct conn *c, const struct proc *p) {
    bool over = p->ended != 0 && !p->failed;
    bool exited = over && WIFEXITED(p->status);
    int sig = over && WIFSIGNALED(p->status) ? WTERMSIG(p->status) : 0;
    reply_text(c, "id");
    reply_textf(c, "%llu", (unsigned long long)p->id);
    reply_field_text(c, "name", p->spec.name);
    reply_field_text(c, "state", proc_state_names[p->state]);
    reply_field_int(c, "pid", p->pid);
    reply_field_int(c, "ppid", p->pid ? getpid() : 0);
    reply_field_int(c, "uid", p->uid);
    reply_field_int(c, "client", (int64_t)p->client);
    reply_command(c, p);
    reply_field_text(c, "directory", p->spec.directory);
    reply_field_int(c, "started_ms", (int64_t)p->since);
    reply_field_int(c, "ended_ms", (int64_t)p->ended);
    reply_field_int(c, "runs", p->runs);
    reply_field_text(c, "restart", proc_restart_names[p->spec.restart]);
    reply_field_int(c, "pause_ms", p->state == PROC_PAUSING ? p->pause_ms : 0);
    reply_field_text(c, "cause", p->why);
    reply_field_int(c, "exit_status", exited ? WEXITSTATUS(p->status) : -1);
    reply_field_int(c, "signal", sig);
    reply_field_int(c, "core", sig && WCOREDUMP(p->status));
    reply_field_int(c, "user_us", (int64_t)us_of(&p->usage.ru_utime));
    reply_field_int(c, "system_us", (int64_t)us_of(&p->usage.ru_stime));
    reply_field_int(c, "max_rss_kib", p->usage.ru_maxrss);
    reply_field_int(c, "page_faults", p->usage.ru_majflt);
    reply_field_int(c, "written", (int64_t)p->written);
    reply_field_int(c, "kept", (int64_t)buf_len(&p->output));
    reply_task(c, p);
}

static void reply_info(struct conn *c, const struct proc *p) {
    reply_map(c, INFO_FIELDS);
    reply_fields(c, p);
}

/* The same with how the task of a handler has ended, while that is known. */
static void reply_end(struct conn *c, const struct proc *p) {
    struct hearthd *d = c->serve->d;
    struct task_view v = {.state = TASK_FREE};
    char why[END_CAUSE] = "";
    bool known = p->spec.pool && tasks_is_known(d, p->spec.task, p->spec.task_id) &&
                 tasks_is_ended(d, p->spec.task) && tasks_view(d, p->spec.task, &v) == 0;
    reply_map(c, INFO_FIELDS + END_FIELDS);
    reply_fields(c, p);
    reply_field_text(c, "status", known ? task_state_names[v.state] : "");
    reply_text(c, "result");
    if (known && v.state == TASK_DONE) {
        REPLY(c, output_bulk(c, &c->out, p->spec.task, &v.output));
    } else {
        reply_null(c);
    }
    if (known) {
        end_cause(d, p->spec.task, &v, why);
    }
    reply_field_text(c, "failure", why);
    if (known) {
        tasks_fetched(d, p->spec.task);
    }
}

static void wait_ended(struct proc_waiter *w, const struct proc *p) {
    struct conn *c = container_of(w, struct conn, proc);
    reply_end(c, p);
    block_end(c);
}

int cmd_PROC_WAIT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    uint64_t ms;
    if (!args_wait(c, argv + 2, argc - 2, &ms)) {
        return 0;
    }
    struct proc *p = proc_arg(c, &argv[1]);
    if (!p) {
        return 0;
    }
    if (p->state == PROC_ENDED) {
        reply_end(c, p);
    } else if (ms == 0) {
        reply_null_array(c);
    } else if (block_as(c, BLOCK_PROC, ms) < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    } else {
        c->proc.ended = wait_ended;
        proc_wait(p, &c->proc);
    }
    return 0;
}

int cmd_PROC_SIGNAL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    bool terminate = resp_is(&argv[2], "TERMINATE");
    bool alone = argc == 4 && resp_is(&argv[3], "ALONE");
    int sig = terminate ? SIGTERM : proc_signal_number(argv[2].data, argv[2].len);
    if (argc > 4 || (argc == 4 && (!alone || terminate))) {
        reply_syntax(c);
        return 0;
    }
    if (sig == 0) {
        reply_error(c, "ERR there is no such signal");
        return 0;
    }
    struct proc *p = own_proc(c, &argv[1], "proc.signal");
    if (!p) {
        return 0;
    }
    if (p->state == PROC_ENDED) {
        reply_int(c, 0);
        return 0;
    }
    if (terminate || (sig == SIGKILL && !alone)) {
        proc_stop(p, !terminate);
        reply_int(c, 1);
    } else {
        reply_int(c, proc_signal(p, sig, alone) == 0);
    }
    return 0;
}

int cmd_PROC_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    const struct hearthd *d = c->serve->d;
    struct proc_stats stats;
    (void)argv;
    (void)argc;
    proc_stats(d, &stats);
    reply_array(c, stats.running + stats.kept);
    for (const struct proc *p = proc_next(d, NULL); p; p = proc_next(d, p)) {
        reply_info(c, p);
    }
    return 0;
}

int cmd_PROC_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    const struct proc *p = proc_arg(c, &argv[1]);
    if (p) {
        reply_info(c, p);
    }
    return 0;
}

/* [offset of the first byte, bytes, whether it has ended]. */
int cmd_PROC_LOG(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    uint64_t from = 0;
    if ((argc != 2 && argc != 4) || (argc == 4 && !resp_is(&argv[2], "FROM"))) {
        reply_syntax(c);
        return 0;
    }
    if (argc == 4 && num_u64(argv[3].data, argv[3].len, &from) < 0) {
        reply_error(c, "ERR value is not an integer or out of range");
        return 0;
    }
    const struct proc *p = own_proc(c, &argv[1], "proc.log");
    if (!p) {
        return 0;
    }
    size_t len = buf_len(&p->output);
    uint64_t most = c->serve->d->config->limits.process_output;
    size_t skip = len > most ? len - (size_t)most : 0;
    uint64_t first = p->written - len + skip;
    if (from > first) {
        skip = from < p->written ? skip + (size_t)(from - first) : len;
        first = from < p->written ? from : p->written;
    }
    reply_array(c, 3);
    reply_int(c, (int64_t)first);
    reply_bulk(c, len ? buf_head(&p->output) + skip : "", len - skip);
    reply_int(c, p->state == PROC_ENDED);
    return 0;
}

int cmd_PROC_REMOVE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct proc *p = own_proc(c, &argv[1], "proc.remove");
    if (!p) {
        return 0;
    }
    if (p->state != PROC_ENDED) {
        reply_error(c, "RUNNING it has not ended");
    } else {
        proc_remove(p);
        reply_ok(c);
    }
    return 0;
}
