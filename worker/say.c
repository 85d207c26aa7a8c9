/* SPDX-License-Identifier: MIT */
/* Log lines of zygotes and workers.
 *
 * They go to stderr, which is the daemon's own. Under systemd that is the journal, which reads a
 * "<N>" in front of a line as its priority and knows the process itself; the line then needs no
 * more than the pool. On a terminal or in a file the same line is written as "pool/pid: level:
 * text", so that lines of many processes stay apart. $JOURNAL_STREAM says which: it must name the
 * very file that stderr is, because it is inherited by processes whose stderr was redirected since.
 *
 * One write(2) a line: lines of several processes do not mix. Nothing is kept open, nothing is
 * allocated.
 *
 * Fails: never to the caller; a line that cannot be written is lost, for want of a place to say so.
 * Too long: cut. */
#include "worker/say.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

static const char *const level_names[] = {"emerg",   "alert",  "crit", "error",
                                          "warning", "notice", "info", "debug"};

static const char *say_pool = "?";
static int say_to_journal;

void say_init(const char *pool) {
    const char *stream = getenv("JOURNAL_STREAM");
    uint64_t dev = 0;
    uint64_t ino = 0;
    struct stat st;
    say_pool = pool;
    say_to_journal = stream != NULL && sscanf(stream, "%" SCNu64 ":%" SCNu64, &dev, &ino) == 2 &&
                     fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void say_v(int level, const char *task, const char *format, va_list ap) {
    char line[2048];
    size_t n = 0;
    if (level < 0 || level >= (int)ARRAY_SIZE(level_names)) {
        level = 6;
    }
    if (say_to_journal) {
        n += (size_t)snprintf(line, 512, "<%d>%s: ", level, say_pool);
    } else {
        n +=
            (size_t)snprintf(line, 512, "%s/%d: %s: ", say_pool, (int)getpid(), level_names[level]);
    }
    if (task != NULL) {
        n += (size_t)snprintf(line + n, 512, "task %s: ", task);
    }
    size_t text = n;
    int more = vsnprintf(line + n, sizeof(line) - n, format, ap);
    if (more > 0) {
        n += (size_t)more;
    }
    if (n > sizeof(line) - 1) {
        n = sizeof(line) - 1;
    }
    for (size_t i = text; i < n; i++) {
        if (line[i] == '\n') {
            line[i] = ' ';
        }
    }
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0) {
        return; /* nowhere to complain */
    }
}

void say(int level, const char *task, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    say_v(level, task, format, ap);
    va_end(ap);
}
