/* SPDX-License-Identifier: MIT */
/* The `hearth` command: what its parts share. A command is one row of ctl_commands (commands.c):
 * help, parsing of its options and bash completion's check come from there. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/hearth.h"

/* Exit statuses; documented in hearth(1) and by `hearth help exit`. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1,    /* the handler failed */
    CTL_USAGE = 2,     /* wrong words on the command line */
    CTL_LOST = 3,      /* the worker died */
    CTL_TIMEOUT = 4,   /* over the task's time limit, or not begun in time */
    CTL_CANCELLED = 5, /* cancelled, or the daemon stopped */
    CTL_REFUSED = 6,   /* the daemon refused: busy, out of memory, no such pool or handler */
    CTL_CONNECT = 7,   /* no connection, or it was lost */
    CTL_NOTASK = 8,    /* no such task, name, field or element */
    CTL_PENDING = 9,   /* not ended yet */
    CTL_LOCAL = 10,    /* a file, memory, the terminal */
    CTL_INTERRUPTED = 130,
};

/* One option of a command. The last row of a list has no name. */
struct ctl_option {
    const char *name; /* "timeout" for --timeout */
    char letter;      /* what ctl_option() returns, and -t; a letter below ' ' has no short form */
    const char *arg;  /* name of its value; NULL: it has none */
    const char *help;
};

enum {
    CTL_STREAM = 8,
    CTL_SPLIT,
    CTL_CHUNK,
    CTL_PRIORITY = 16,
    CTL_BACKOFF = CTL_PRIORITY + 6,
    CTL_OWNED = CTL_BACKOFF + 6,
    CTL_SOFT,
    CTL_MEMORY,
    CTL_DURABLE,
    CTL_LEASE,
    CTL_SIMPLEX
}; /* letters that are none */
/* What call, submit and map say about a task beside its time limit. */
#define CTL_TASK_OPTIONS                                                                           \
    {"soft", CTL_SOFT, "TIME", "it is told to end when it has run so long"},                       \
        {"memory", CTL_MEMORY, "SIZE", "it is killed when it has more memory (as 64M)"},           \
        {"durable", CTL_DURABLE, NULL, "written to the disk before it counts as accepted"},        \
        {"priority", CTL_PRIORITY, "N", "0 to 255, higher is sooner (default: the pool's, 128)"},  \
        {"delay", CTL_PRIORITY + 1, "TIME", "not before so long from now"},                        \
        {"expire", CTL_PRIORITY + 2, "TIME", "expired if not begun so long from now"},             \
        {"deadline", CTL_PRIORITY + 3, "TIME",                                                     \
         "to be ended so long from now, in the queue or running"},                                 \
        {"retry", CTL_PRIORITY + 4, "N", "attempts more after a failed one"},                      \
        {"on", CTL_PRIORITY + 5, "KINDS", "after error, crash, timeout, memory (with commas)"}, {  \
        "backoff", CTL_BACKOFF, "TIME", "pause before the second attempt, then doubled"            \
    }
/* Keys that tasks have in common. */
#define CTL_KEY_OPTIONS                                                                            \
    {"limit", CTL_BACKOFF + 1, "KEY=N", "at most N of this key run at once, in all pools"},        \
        {"after", CTL_BACKOFF + 2, "IDS[=HOW]",                                                    \
         "after these have ended (with commas; or group:NAME): ok (default), any, failed"},        \
        {"group", CTL_BACKOFF + 3, "NAME", "it is one of this group"}, {                           \
        "owned", CTL_OWNED, NULL, "it is cancelled when this command ends, however it does"        \
    }
/* And of one task. */
#define CTL_ONE_OPTIONS                                                                            \
    {"unique", CTL_BACKOFF + 4, "KEY[=HOW]",                                                       \
     "one at a time of this key: reject (default), attach, replace, or keep it"},                  \
    {                                                                                              \
        "last", CTL_BACKOFF + 5, NULL, "with --group: the group takes no more tasks"               \
    }
enum { CTL_TASK_WORDS = CTL_DURABLE - CTL_PRIORITY + 1 };
struct ctl_task_words {
    const char *words[3 * CTL_TASK_WORDS]; /* as hearth_task.options */
    char numbers[CTL_TASK_WORDS][24];
    size_t n;
    struct {
        const char *word[3];
        size_t n;
    } of[CTL_TASK_WORDS]; /* by option: the last of its name counts */
};

struct ctl {
    const char *socket; /* NULL: the library's choice */
    bool json;
    struct hearth *h;
    const struct ctl_command *command;
    /* The words of the command line not yet taken. */
    int argc;
    char **argv;
    bool verbatim;     /* "--" was seen: no more options */
    const char *value; /* of the last option */
    int status;        /* after CTL_STOP */
    bool told_errors;  /* standard error of the command has been written already */
};

/* What can be done with an object, as `hearth dict NAME VERB`. The last row of a list has no name. */
enum ctl_show {
    CTL_SHOW_NOTHING,
    CTL_SHOW_VALUE,
    CTL_SHOW_LINES, /* elements, one a line */
    CTL_SHOW_PAIRS, /* field, TAB, value */
    CTL_SHOW_YES,   /* "yes" or "no" of 1 or 0 */
};
struct ctl_words;
struct ctl_verb {
    const char *name, *args, *help;
    int least, most;     /* words behind it; most -1: any number */
    const char *command; /* is sent with the object's name and these words, ... */
    enum ctl_show show;
    int (*run)(struct ctl *c, struct ctl_words *w); /* ... unless this does it */
};

struct ctl_command {
    const char *name;
    const char *args;    /* synopsis without options */
    const char *summary; /* one line */
    const char *text;    /* more help, with examples */
    const struct ctl_option *options;
    int (*run)(struct ctl *c);    /* an exit status */
    const struct ctl_verb *verbs; /* or NULL */
};

extern const struct ctl_command ctl_commands[];
extern const size_t ctl_n_commands;

/* ---- args.c ---- */
enum { CTL_END = 0, CTL_STOP = -1 };
/* The next option: its letter with c->value; CTL_END: an operand or the end is next; CTL_STOP: a
 * mistake was reported, or help was given: return c->status. Takes the options that all commands
 * have by itself. */
int ctl_option(struct ctl *c);
/* Takes the next word; NULL: none left. */
const char *ctl_operand(struct ctl *c);
/* "500ms", "2s", "1.5m", "1h" or seconds, as milliseconds of at least 1. Reports a mistake: false.
 */
/* One of CTL_TASK_OPTIONS: c->value is its value. False: refused, and said. */
bool ctl_task_option(struct ctl *c, int o, struct ctl_task_words *w, struct hearth_task *task);
bool ctl_duration(struct ctl *c, const char *text, uint64_t *ret_ms);
bool ctl_count(struct ctl *c, const char *text, uint64_t max, uint64_t *ret);
/* Splits "pool.handler" in place; without a dot the handler is "run", that of exec pools. Reports a
 * mistake: false. */
bool ctl_target(struct ctl *c, char *text, struct hearth_task *ret);
extern const struct ctl_option ctl_common_options[];

/* ---- help.c ---- */
void ctl_help(void);
void ctl_help_command(const struct ctl_command *cmd);
int ctl_run_help(struct ctl *c);

/* ---- report.c: what goes to standard error, and exit statuses ---- */
/* "hearth: command: text". Returns status. */
int ctl_say(const struct ctl *c, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int ctl_usage(struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Connects if need be. CTL_OK, or an exit status after saying what to do. */
int ctl_connect(struct ctl *c);
/* Reports a failed call of the library; returns the exit status. */
int ctl_failed(struct ctl *c, int error);
/* Reports a task that was refused, or did not end well, with what helps; returns the exit status.
 */
int ctl_report(struct ctl *c, const struct hearth_task *task, const struct hearth_result *r);
int ctl_exit_of(const struct hearth_result *r);
/* Reports an error reply to a command; returns the exit status. */
int ctl_refused(struct ctl *c, const struct hearth_task *task, const struct hearth_reply *reply);
/* Sends a command of n words (lens NULL: they end at their NUL) and reports errors: an exit status. */
int ctl_ask(struct ctl *c, size_t n, const char *const *words, const size_t *lens,
            const struct hearth_reply **ret);
/* Counts signals SIGINT and SIGTERM from now on instead of dying. */
void ctl_catch_signals(void);
bool ctl_interrupted(void);

/* ---- files.c ---- */
enum { CTL_PAYLOAD_MAX = 64 << 20 };
/* The whole of a file, "-" for standard input; *ret is the caller's to free(). False after
 * reporting. */
/* Standard input in pieces that end with a byte. Not stdio: it has to say "nothing now" while
 * others work. */
struct ctl_lines {
    char *data;
    size_t head, scanned, tail,
        cap; /* data[head..tail) is not taken; up to scanned it has no separator */
    bool ended;
};
/* 1: *ret (the caller's to free(), NUL-terminated) without its separator; 0: the end; -EAGAIN:
 * nothing now; -EFBIG: longer than CTL_PAYLOAD_MAX; -errno. */
int ctl_line(struct ctl_lines *l, char separator, char **ret, size_t *ret_len);
bool ctl_read_file(struct ctl *c, const char *name, char **ret, size_t *ret_len);

/* ---- map_split.c ---- */
struct ctl_map_split {
    const struct hearth_task *task; /* but the payload */
    const char *file;               /* the payload */
    const char *chunk;              /* pieces of each task; NULL: the daemon's choice */
    bool null;                      /* pieces end with NUL, not with a newline */
};
/* Runs it: an exit status. */
int ctl_map_split(struct ctl *c, const struct ctl_map_split *m);

/* ---- print.c ---- */
/* Each line of a result with the tag and a TAB before it; an empty result is one empty line. */
void ctl_print_tagged(const char *tag, const char *data, size_t len);
/* A result, ended by a newline if it does not end in one. */
void ctl_print_line(const char *data, size_t len);
/* A scalar. */
void ctl_print_value(const struct hearth_reply *r);

/* ---- json.c ---- */
/* A JSON string on standard output; false, and nothing written, if the bytes are not UTF-8. */
bool json_text(const char *data, size_t len);
/* `"key":"...", "encoding":"base64"` or `"key":"..."`, without a comma before. */
void json_bytes(const char *key, const char *data, size_t len);
/* "...", or {"base64":"..."}. */
void json_value(const char *data, size_t len);
void json_reply(const struct hearth_reply *r);
/* {"id":..,"status":..,...} without the closing brace, so that more can follow. */
void json_result(const struct hearth_result *r, bool with_data);

/* ---- json_read.c ---- */
/* A line of an export: a value, or (with fields) an object of "field" and "value". Text that the JSON stands for is written
 * over it, so *ret points into the line; numbers are taken as they are written. NULL, or what is wrong with it. */
struct json_item {
    const char *data;
    size_t len;
};
const char *json_read_value(char *line, size_t len, struct json_item *ret);
const char *json_read_pair(char *line, size_t len, struct json_item *ret_field,
                           struct json_item *ret_value);

/* A line with an object whose members are values, or arrays of them: each is told, in order, and where an array begins (data
 * NULL). False from fn: it is not what it should be. */
typedef bool (*json_member_fn)(void *arg, const struct json_item *key,
                               const struct json_item *item);
const char *json_read_object(char *line, size_t len, json_member_fn fn, void *arg);

/* ---- table.c ---- */
enum ctl_kind { CTL_TEXT, CTL_NUMBER, CTL_BYTES, CTL_MICROS, CTL_SECONDS, CTL_AGE, CTL_DATE };
struct ctl_column {
    const char *key; /* in the daemon's map */
    const char *header;
    enum ctl_kind kind;
};
/* Prints an array of maps as aligned columns; those that no row has are left out. `none` is said of
 * an empty array. */
int table_print(struct ctl *c, const struct hearth_reply *rows, const struct ctl_column *columns,
                size_t n, const char *none);
/* "1.23 ms" of microseconds. Static buffers: four results are valid at a time. */
const char *table_micros(int64_t us);
const char *table_bytes(int64_t bytes);
/* Milliseconds since 1970 as local time; "-" of 0. Returns out. */
char *table_date(int64_t ms, char out[32]);

/* ---- progress.c ---- */
struct progress {
    bool on; /* standard error is a terminal */
    bool drawn;
    uint64_t begin, last;
    uint64_t total; /* 0: not known */
};
void progress_begin(struct progress *p, uint64_t total);
void progress_draw(struct progress *p, uint64_t done, uint64_t failed, uint64_t flying);
void progress_clear(struct progress *p);
/* The same of one task that says how far it has come. */
void progress_task(struct progress *p, const struct hearth_data *d);

/* ---- cmd_log.c ---- */
/* Writes what a task tells to where it belongs: standard output, or standard error. */
void ctl_write_data(const struct hearth_data *d);

/* ---- object.c: commands on shared objects ---- */
/* Words to be sent: what is fixed, the object's name, what the user gave. */
struct ctl_words {
    const char **v;
    size_t n, cap;
    bool left, right, fresh, replace, keep, full; /* options */
    uint64_t ttl_ms, wait_ms;
    bool wait;
    uint64_t most;
    int64_t lease_ms;
    const char *file;
};
/* Takes all options and operands. CTL_OK, or an exit status. The words are ended by object_words_end(). */
int object_words(struct ctl *c, struct ctl_words *w);
void object_words_end(struct ctl_words *w);
/* Puts a word before those at `at`. False: no memory, reported. */
bool object_insert(struct ctl *c, struct ctl_words *w, size_t at, const char *word);
/* Sends the words and shows the reply. */
int object_send(struct ctl *c, const struct ctl_words *w, enum ctl_show show);
int object_show(struct ctl *c, const struct hearth_reply *r, enum ctl_show show);
/* Runs the verb that the second word names; the first is the object's name. */
int object_verb(struct ctl *c);
extern const struct ctl_verb ctl_dict_verbs[], ctl_list_verbs[];
/* cmd_queue.c */
extern const struct ctl_verb ctl_queue_verbs[], ctl_pipe_verbs[], ctl_event_verbs[],
    ctl_barrier_verbs[];

/* cmd_array.c */
extern const struct ctl_verb ctl_array_verbs[];

/* ---- transfer.c: w->v[0] is the name, v[1] a file's or absent ---- */
int dict_export(struct ctl *c, struct ctl_words *w);
int dict_import(struct ctl *c, struct ctl_words *w);
int list_export(struct ctl *c, struct ctl_words *w);
int list_import(struct ctl *c, struct ctl_words *w);

/* ---- cmd_*.c ---- */
int cmd_call(struct ctl *c);
int cmd_submit(struct ctl *c);
int cmd_wait(struct ctl *c);
int cmd_result(struct ctl *c);
int cmd_cancel(struct ctl *c);
int cmd_log(struct ctl *c);
int cmd_dump(struct ctl *c);
int cmd_load(struct ctl *c);
int cmd_map(struct ctl *c);
int cmd_tasks(struct ctl *c);
int cmd_pools(struct ctl *c);
int cmd_workers(struct ctl *c);
int cmd_ping(struct ctl *c);
int cmd_info(struct ctl *c);
int cmd_raw(struct ctl *c);
int cmd_get(struct ctl *c);
int cmd_set(struct ctl *c);
int cmd_incr(struct ctl *c);
int cmd_del(struct ctl *c);
int cmd_expire(struct ctl *c);
int cmd_keys(struct ctl *c);
int cmd_fsck(struct ctl *c);
int cmd_manager(struct ctl *c);
int cmd_block(struct ctl *c);
int cmd_proc(struct ctl *c);
int cmd_pool(struct ctl *c);
int cmd_config(struct ctl *c);
int cmd_reload(struct ctl *c);
int cmd_events(struct ctl *c);
int cmd_metrics(struct ctl *c);
int cmd_schedule(struct ctl *c);
int cmd_dead(struct ctl *c);
int cmd_group(struct ctl *c);
int cmd_priority(struct ctl *c);
int cmd_top(struct ctl *c);
int cmd_lock(struct ctl *c);
int cmd_sem(struct ctl *c);

/* ---- cmd_list.c ---- */
int ctl_list_managers(struct ctl *c);
/* Sends a command that answers an array of maps, and shows it. */
int ctl_list(struct ctl *c, size_t n, const char *const *words, const struct ctl_column *columns,
             size_t n_columns, const char *none);
/* Sends `verb` with each name, `first` and the words left, and shows the maps. */
int ctl_show_each(struct ctl *c, const char *verb, const char *first);
