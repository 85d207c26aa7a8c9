/* SPDX-License-Identifier: MIT */
/* The daemon's log: one line per event, structured when systemd's journal listens, else plain text
 * on stderr. Process-global by nature (it is where this process's stderr goes), used by the one
 * thread of the daemon. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum log_level {
    LOG_LEVEL_ERR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVELS
};
extern const char *const log_level_names[LOG_LEVELS]; /* "err" "warning" "notice" "info" "debug" */

/* The kinds of event that tools may look for: messages.def. MESSAGE_NONE has no MESSAGE_ID in the
 * journal. */
enum log_message {
    MESSAGE_NONE,
#define MESSAGE(name, ...) MESSAGE_##name,
#include "daemon/messages.def"
#undef MESSAGE
    MESSAGES,
};
/* The 32 hex digits of a kind's MESSAGE_ID; NULL for MESSAGE_NONE. And what the kind means. */
extern const char *const log_message_ids[MESSAGES];
extern const char *const log_message_docs[MESSAGES];

/* What an event is about; leave out what does not apply. */
struct log_fields {
    enum log_message message;
    const char *pool;
    const char *task; /* the task's id as text */
    pid_t worker;
};

/* Sets the level, and the journal if stderr is connected to it ($JOURNAL_STREAM names our stderr).
 * Before this, info and more go to stderr. */
void log_open(enum log_level level);
/* True when events of the level are written: to spare the making of expensive text. */
bool log_wants(enum log_level level);

/* Use the macros. */
void log_write(enum log_level level, const struct log_fields *fields, const char *file, int line,
               const char *func, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* log_info(LOG_ABOUT(.pool = p->config->name, .worker = pid), "started with %u handlers", n);
 * log_err(NULL, "cannot bind %s: %s", path, strerror(-r)); */
#define LOG_ABOUT(...)            (&(const struct log_fields){__VA_ARGS__})
#define log_at(level, about, ...) log_write(level, about, __FILE__, __LINE__, __func__, __VA_ARGS__)
#define log_err(about, ...)       log_at(LOG_LEVEL_ERR, about, __VA_ARGS__)
#define log_warn(about, ...)      log_at(LOG_LEVEL_WARNING, about, __VA_ARGS__)
#define log_notice(about, ...)    log_at(LOG_LEVEL_NOTICE, about, __VA_ARGS__)
#define log_info(about, ...)      log_at(LOG_LEVEL_INFO, about, __VA_ARGS__)
#define log_debug(about, ...)                                                                      \
    do {                                                                                           \
        if (log_wants(LOG_LEVEL_DEBUG)) {                                                          \
            log_at(LOG_LEVEL_DEBUG, about, __VA_ARGS__);                                           \
        }                                                                                          \
    } while (0)

/* The plain line for an event, with its newline, into out (n >= 64 bytes, always NUL-terminated,
 * cut to fit): control characters are written as \xHH. Returns its length. For log_write() and its
 * test. */
size_t log_format(char *out, size_t n, enum log_level level, const struct log_fields *fields,
                  const char *text);
