/* SPDX-License-Identifier: MIT */
/* What a handler sees of Hearth.
 *
 * Input is read where it lies in the segment. Output is written where it will stay: reserve() and
 * write() give room in the task's own block, which at least doubles when it is outgrown, so that a
 * result of n bytes is copied by us at most once over (and not at all when the handler reserves the
 * right size at first). Nothing of it counts before the handler has returned and the outcome is
 * finished by one word in the record.
 *
 * There is one task at a time on a thread, hence one struct hearth_task for each, reused: its index of
 * arguments is made when a handler first asks for one, its message buffer is part of it. The
 * table's functions take no context but the task; what else they need (pool, worker number) is set
 * once per process.
 *
 * A module is foreign code: what it hands in is checked where a check is possible (commit() over
 * what was reserved is cut and reported), and what it gets are pointers into memory that it could
 * damage anyway; the shared words that matter are not at risk of an honest bug, since the arguments
 * and payload precede the end of their own block.
 *
 * Fails: -ENOMEM (segment full, or locks busy beyond patience), -EMSGSIZE (over max_output), both
 * to the handler. */
#include "worker/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/shm/slot.h"
#include "lib/shm/stream.h"
#include "worker/say.h"
#include "worker/shared.h"
#include "worker/sync.h"

enum { MESSAGE_MAX = 4001 };

struct hearth_task {
    struct shm *shm;
    const struct task_ref *ref;
    const struct task_view *view;
    char id[TASK_ID_TEXT];

    struct task_bytes *args; /* argc of them when args_known; the array is kept for the next task */
    size_t args_cap;
    size_t argc;
    bool args_known;

    uint8_t *out;      /* where the output lies; NULL: nowhere yet */
    uint64_t cap;      /* bytes there */
    uint64_t used;     /* bytes of it that count */
    uint64_t reserved; /* bytes behind them that commit() may claim */
    uint64_t max_output;

    bool failed;
    bool told; /* it asked, and was told, that it is over its soft limit */
    int code;
    char message[MESSAGE_MAX];
};

static _Thread_local struct hearth_task the_task;
static const char *the_pool = "?";
static _Thread_local int the_worker = -1;
static _Thread_local char the_why[MESSAGE_MAX];

static atomic_bool the_retires;
static _Thread_local struct shm *the_process;

const char *api_why(void) {
    return the_why;
}

/* ---- input ---- */

static struct hearth_bytes api_payload(struct hearth_task *t) {
    return (struct hearth_bytes){t->view->payload.data, t->view->payload.len};
}

/* Without memory for the index a task has no arguments, and fails by itself for want of them. */
static void index_args(struct hearth_task *t) {
    t->args_known = true;
    if (t->view->nargs > t->args_cap) {
        struct task_bytes *more = realloc(t->args, t->view->nargs * sizeof(*more));
        if (more == NULL) {
            say(HEARTH_LOG_ERROR, t->id, "no memory for %u arguments", t->view->nargs);
            return;
        }
        t->args = more;
        t->args_cap = t->view->nargs;
    }
    size_t at = 0;
    while (t->argc < t->view->nargs && task_arg(t->view, &at, &t->args[t->argc]) == 0) {
        t->argc++;
    }
}

static size_t api_argc(struct hearth_task *t) {
    if (!t->args_known && t->view->nargs > 0) {
        index_args(t);
    }
    return t->argc;
}

static struct hearth_bytes api_arg(struct hearth_task *t, size_t i) {
    if (i >= api_argc(t)) {
        return (struct hearth_bytes){NULL, 0};
    }
    return (struct hearth_bytes){t->args[i].data, t->args[i].len};
}

/* ---- what the task is ---- */

static const char *task_id(struct hearth_task *t) {
    if (t->id[0] == '\0') {
        task_id_text(t->id, t->ref->id, t->ref->idx);
    }
    return t->id;
}

static uint32_t api_attempt(struct hearth_task *t) {
    return t->view->attempt;
}

static int64_t api_deadline_ms(struct hearth_task *t) {
    if (t->view->timeout_ms == 0) {
        return -1;
    }
    uint64_t at = t->view->started_ns + t->view->timeout_ms * NS_PER_MS;
    uint64_t now = clock_now();
    return now >= at ? 0 : (int64_t)((at - now) / NS_PER_MS);
}

static int api_cancelled(struct hearth_task *t) {
    return task_cancel_wanted(t->shm, t->ref);
}

static int api_soft_limit(struct hearth_task *t) {
    int sig;
    t->told |= task_is_soft(t->shm, t->ref, &sig);
    return t->told;
}

/* ---- output ---- */

/* Room for n bytes behind `used`. 0, -ENOMEM, -EMSGSIZE. */
static int make_room(struct hearth_task *t, uint64_t n) {
    if (n > t->max_output || t->used > t->max_output - n) {
        return -EMSGSIZE;
    }
    uint64_t need = t->used + n;
    if (t->out != NULL && need <= t->cap) {
        return 0;
    }
    /* the first request is taken at its word: whoever knows the size gets just that */
    uint64_t want = need;
    if (t->out != NULL && want < t->cap * 2) {
        want = t->cap * 2;
    }
    if (want > t->max_output) {
        want = t->max_output;
    }
    void *place = NULL;
    int r = task_output(t->shm, t->ref, t->used, want, &place);
    if (r < 0 && want > need) {
        want = need;
        r = task_output(t->shm, t->ref, t->used, want, &place);
    }
    if (r < 0) {
        return r == -EMSGSIZE ? r : -ENOMEM;
    }
    t->out = place;
    t->cap = want;
    return 0;
}

static void *api_reserve(struct hearth_task *t, size_t size) {
    t->reserved = 0;
    if (make_room(t, size) < 0) {
        return NULL;
    }
    t->reserved = size;
    return t->out + t->used;
}

static void api_commit(struct hearth_task *t, size_t len) {
    if (len > t->reserved) {
        say(HEARTH_LOG_ERROR, task_id(t), "handler committed %zu bytes of %zu reserved", len,
            (size_t)t->reserved);
        len = t->reserved;
    }
    t->used += len;
    t->reserved = 0;
}

static int api_write(struct hearth_task *t, const void *data, size_t len) {
    int r = make_room(t, len);
    if (r < 0) {
        return r;
    }
    if (len > 0) {
        memcpy(t->out + t->used, data, len);
    }
    t->used += len;
    t->reserved = 0;
    return 0;
}

/* ---- failure and logging ---- */

static int api_fail(struct hearth_task *t, int code, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(t != NULL ? t->message : the_why, MESSAGE_MAX, format, ap);
    va_end(ap);
    if (code == 0) {
        code = 1;
    }
    if (t != NULL) {
        t->failed = true;
        t->code = code;
    }
    return code;
}

/* Also to who follows the task: what cannot be told there is in the log all the same. */
static void tell_line(struct hearth_task *t, const char *format, va_list ap) {
    char line[1024];
    int n = vsnprintf(line, sizeof(line) - 1, format, ap);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
    line[len++] = '\n';
    (void)stream_put(t->shm, t->ref, STREAM_LOG, line, len, true);
}

static void api_log(struct hearth_task *t, int level, const char *format, ...) {
    va_list ap;
    if (t != NULL && stream_is_used(t->shm, t->ref)) {
        va_start(ap, format);
        tell_line(t, format, ap);
        va_end(ap);
    }
    va_start(ap, format);
    say_v(level, t != NULL ? task_id(t) : NULL, format, ap);
    va_end(ap);
}

static void api_retire(struct hearth_task *t) {
    the_retires = true;
    (void)t;
    slot_set_ending(the_process, ENDING_ASKED);
}

bool api_retires(void) {
    return the_retires;
}

/* ---- while it runs ---- */

static int api_emit(struct hearth_task *t, const void *data, size_t len) {
    int64_t r = stream_put(t->shm, t->ref, STREAM_DATA, data, len, true);
    return r == -ECANCELED ? -ECANCELED : r < 0 ? -ENOMEM : 0;
}

static int api_progress(struct hearth_task *t, uint64_t done, uint64_t total, const char *text) {
    size_t len = text ? strlen(text) : 0;
    int r = stream_put_progress(t->shm, t->ref, done, total, text, len, true);
    return r == -ECANCELED ? -ECANCELED : r < 0 ? -ENOMEM : 0;
}

static const char *api_pool(void) {
    return the_pool;
}

static int api_worker(void) {
    return the_worker;
}

static struct hearth_api the_api = {
    .size = sizeof(struct hearth_api),
    .abi = HEARTH_ABI,
    .payload = api_payload,
    .argc = api_argc,
    .arg = api_arg,
    .id = task_id,
    .attempt = api_attempt,
    .deadline_ms = api_deadline_ms,
    .cancelled = api_cancelled,
    .reserve = api_reserve,
    .commit = api_commit,
    .write = api_write,
    .fail = api_fail,
    .log = api_log,
    .pool = api_pool,
    .worker = api_worker,
    .soft_limit = api_soft_limit,
    .retire = api_retire,
    .emit = api_emit,
    .progress = api_progress,
};

void api_thread(struct shm *process, int worker) {
    the_process = process;
    the_worker = worker;
}

const struct hearth_api *api_init(const char *pool, int worker) {
    the_pool = pool;
    the_worker = worker;
    the_api.objects = shared_table();
    the_api.sync = sync_table();
    the_why[0] = '\0';
    return &the_api;
}

/* ---- running ---- */

/* A failure's output is its message. It may exceed a tiny max_output, so this does not ask. */
static uint64_t put_message(struct hearth_task *t) {
    size_t len = strlen(t->message);
    void *place = NULL;
    if (len == 0 || task_output(t->shm, t->ref, 0, len, &place) < 0) {
        return 0;
    }
    memcpy(place, t->message, len);
    return len;
}

void api_run(const struct module *m, struct shm *s, const struct task_ref *ref,
             const struct task_view *v, uint64_t max_output, struct task_outcome *ret) {
    struct hearth_task *t = &the_task;
    t->shm = s;
    t->ref = ref;
    t->view = v;
    t->id[0] = '\0';
    t->argc = 0;
    t->args_known = false;
    t->out = NULL;
    t->cap = t->used = t->reserved = 0;
    t->max_output = max_output;
    t->failed = t->told = false;
    t->message[0] = '\0';

    if (v->handler >= m->count) {
        api_fail(t, 1, "module %s has no handler number %u", m->head.name, v->handler);
    } else if (m->handlers[v->handler].run == NULL) {
        api_fail(t, 1, "the handler is not in this version of module %s any more", m->head.name);
    } else {
        shared_set_task(ref);
        int r = m->handlers[v->handler].run(t, &the_api);
        shared_set_task(NULL);
        if (sync_may_hold()) {
            sync_end_task(task_id(t));
        }
        if (r != 0 && !t->failed) {
            t->failed = true;
            t->code = r;
        }
    }
    if (!t->failed) {
        *ret =
            (struct task_outcome){.state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = t->used};
    } else {
        bool cancelled = task_cancel_wanted(s, ref), late = task_is_late(s, ref);
        bool soft = t->told && !cancelled;
        *ret = (struct task_outcome){.state = late || soft ? TASK_TIMEOUT
                                              : cancelled  ? TASK_CANCELLED
                                                           : TASK_FAILED,
                                     .cause = late        ? CAUSE_DEADLINE
                                              : cancelled ? CAUSE_CANCELLED
                                              : soft      ? CAUSE_SOFT
                                                          : CAUSE_ERROR,
                                     .code = cancelled || soft ? 0 : t->code,
                                     .output_len = put_message(t)};
    }
}
