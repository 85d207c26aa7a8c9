/* SPDX-License-Identifier: MIT */
/* The log. Under systemd our stderr is a stream to the journal; $JOURNAL_STREAM then names its
 * device and inode, and if it still is our stderr the events go to the journal by its own protocol,
 * with fields (journalctl HEARTH_POOL=text), else each is one line of text. The text of an event
 * may hold anything that a client or a handler sent, so control characters are escaped in both: a
 * log line can not be forged, and one event is always one line.
 *
 * The daemon must not wait for whoever reads its log: a line is written to stderr only when it
 * takes one without blocking, and is at most PIPE_BUF bytes, which a pipe takes whole or not at
 * all. Lines that were dropped are counted in the next one. (libsystemd's send to the journal can
 * block when journald hangs with megabytes unread; then systemd has worse troubles.)
 *
 * Fails: never to the caller. An event the journal does not take goes to stderr as text.
 */
#define SD_JOURNAL_SUPPRESS_LOCATION /* we give CODE_FILE and its kind ourselves */

#include "daemon/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

enum {
    TEXT_MAX = 8192, /* bytes of an event's text; a handler's message fits */
    MESSAGE_BYTES = TEXT_MAX * 2,
    LINE_BYTES = 4096, /* PIPE_BUF */
};

const char *const log_level_names[LOG_LEVELS] = {"err", "warning", "notice", "info", "debug"};
static const int log_priority[LOG_LEVELS] = {3, 4, 5, 6, 7}; /* syslog's numbers */

const char *const log_message_ids[MESSAGES] = {
#define MESSAGE(name, id, doc) [MESSAGE_##name] = id,
#include "daemon/messages.def"
#undef MESSAGE
};
const char *const log_message_docs[MESSAGES] = {
#define MESSAGE(name, id, doc) [MESSAGE_##name] = doc,
#include "daemon/messages.def"
#undef MESSAGE
};

static enum log_level log_max = LOG_LEVEL_INFO;
static bool log_journal;
static unsigned log_dropped; /* lines that stderr did not take */

/* Is stderr the stream that $JOURNAL_STREAM ("device:inode") speaks of? */
static bool stderr_is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    char mine[48];
    if (!stream || fstat(STDERR_FILENO, &st) < 0) {
        return false;
    }
    snprintf(mine, sizeof(mine), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    return !strcmp(stream, mine);
}

void log_open(enum log_level level) {
    log_max = level;
    log_journal = stderr_is_journal();
}

bool log_wants(enum log_level level) {
    return level <= log_max;
}

/* Appends text to out at `at`, control characters as \xHH; keeps room for the NUL and `tail` bytes
 * more. */
static size_t escape(char *out, size_t n, size_t at, const char *text, size_t tail) {
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool control = *p < 0x20 || *p == 0x7f;
        if (at + (control ? 4 : 1) + tail >= n) {
            break;
        }
        if (control) {
            at += (size_t)snprintf(out + at, n - at, "\\x%02x", *p);
        } else {
            out[at++] = (char)*p;
        }
    }
    out[at] = '\0';
    return at;
}

/* " (pool=x task=y worker=z)" or nothing. */
static void format_fields(char *out, size_t n, const struct log_fields *fields) {
    char worker[16] = "";
    *out = '\0';
    if (!fields || (!fields->pool && !fields->task && !fields->worker)) {
        return;
    }
    if (fields->worker) {
        snprintf(worker, sizeof(worker), "%d", (int)fields->worker);
    }
    snprintf(out, n, " (%s%.40s%s%s%.40s%s%s%s)", fields->pool ? "pool=" : "",
             fields->pool ? fields->pool : "",
             fields->pool && (fields->task || fields->worker) ? " " : "",
             fields->task ? "task=" : "", fields->task ? fields->task : "",
             fields->task && fields->worker ? " " : "", fields->worker ? "worker=" : "", worker);
}

size_t log_format(char *out, size_t n, enum log_level level, const struct log_fields *fields,
                  const char *text) {
    char tail[160];
    format_fields(tail, sizeof(tail), fields);
    size_t tail_len = strlen(tail) < n / 2 ? strlen(tail) : 0;
    tail[tail_len] = '\0';
    size_t at =
        (size_t)snprintf(out, n, "hearthd[%d]: %s: ", (int)getpid(), log_level_names[level]);
    at = escape(out, n, at, text, tail_len + 1);
    at = escape(out, n, at, tail, 1);
    out[at++] = '\n';
    out[at] = '\0';
    return at;
}

enum { FIELDS_MAX = 10, FIELD_TEXT = 256 };

/* The fields of one event for the journal. */
struct entry {
    struct iovec iov[FIELDS_MAX];
    int n;
    char text[FIELDS_MAX][FIELD_TEXT];
};

__attribute__((format(printf, 2, 3))) static void entry_add(struct entry *e, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(e->text[e->n], FIELD_TEXT, fmt, ap);
    va_end(ap);
    e->iov[e->n].iov_base = e->text[e->n];
    e->iov[e->n].iov_len = (size_t)(len < FIELD_TEXT ? len : FIELD_TEXT - 1);
    e->n++;
}

static int send_journal(enum log_level level, const struct log_fields *fields, struct entry *e,
                        const char *text) {
    static const char head[] = "MESSAGE=";
    char message[MESSAGE_BYTES];
    memcpy(message, head, sizeof(head));
    size_t len = escape(message, sizeof(message), sizeof(head) - 1, text, 0);
    e->iov[e->n++] = (struct iovec){message, len};
    entry_add(e, "PRIORITY=%d", log_priority[level]);
    entry_add(e, "SYSLOG_IDENTIFIER=hearthd");
    if (fields && log_message_ids[fields->message]) {
        entry_add(e, "MESSAGE_ID=%s", log_message_ids[fields->message]);
    }
    if (fields && fields->pool) {
        entry_add(e, "HEARTH_POOL=%s", fields->pool);
    }
    if (fields && fields->task) {
        entry_add(e, "HEARTH_TASK=%s", fields->task);
    }
    if (fields && fields->worker) {
        entry_add(e, "HEARTH_WORKER=%d", (int)fields->worker);
    }
    return sd_journal_sendv(e->iov, e->n);
}

static void send_stderr(enum log_level level, const struct log_fields *fields, const char *text) {
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    char out[LINE_BYTES], lost[64];
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) {
        log_dropped++;
        return;
    }
    if (log_dropped) {
        snprintf(lost, sizeof(lost), "%u lines of this log were dropped", log_dropped);
        log_dropped = 0;
        send_stderr(LOG_LEVEL_WARNING, NULL, lost);
        send_stderr(level, fields, text);
        return;
    }
    size_t n = log_format(out, sizeof(out), level, fields, text);
    ssize_t w;
    do {
        w = write(STDERR_FILENO, out, n);
    } while (w < 0 && errno == EINTR);
    log_dropped += w < 0;
}

void log_write(enum log_level level, const struct log_fields *fields, const char *file, int line,
               const char *func, const char *fmt, ...) {
    int saved = errno;
    if (!log_wants(level)) {
        return;
    }
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (len >= (int)sizeof(text)) {
        memcpy(text + sizeof(text) - 4, "...", 4);
    }
    bool sent = false;
    if (log_journal) {
        struct entry e = {.n = 0};
        entry_add(&e, "CODE_FILE=%s", file);
        entry_add(&e, "CODE_LINE=%d", line);
        entry_add(&e, "CODE_FUNC=%s", func);
        sent = send_journal(level, fields, &e, text) >= 0;
    }
    if (!sent) {
        send_stderr(level, fields, text);
    }
    errno = saved;
}
