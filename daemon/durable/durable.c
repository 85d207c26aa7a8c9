/* SPDX-License-Identifier: MIT */
/* Which changes of tasks are written down, and what is made of them at the start.
 *
 * A durable task is in the segment like any other; a worker may begin it at once. Its submitter is told when the batch with its
 * row is on the disk (serve/hold.c), and its end is told when that is (tasks/ends.c). So whoever has been told anything can rely on it,
 * and what was not told may be there or not.
 *
 * At the start the segment is the better witness, if there is one: it knows what ran. Rows that it does not know were to be
 * deleted. Without it (power was lost) the rows are all there is: live ones are submitted again under their ids, and may run a
 * second time; ended ones are restored with their results. Times of CLOCK_MONOTONIC are kept with that clock's distance from the
 * wall clock, and moved.
 *
 * Fails: the database cannot be opened: -errno, logged, the daemon does not start (it would lose promises). A disk that is full
 * later: durable submits are refused, all else goes on. */
#include "daemon/durable.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/durable/journal.h"
#include "daemon/durable/objects.h"
#include "daemon/lockfile.h"
#include "daemon/log.h"
#include "daemon/policy.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/adopt.h"
#include "lib/shm/dirty.h"

#define ABOUT LOG_ABOUT(.message = MESSAGE_DURABLE)

/* ---- opening ---- */

static void look(struct hearthd *d) {
    struct durable *u = d->durable;
    u->done = journal_done(u->journal);
    const char *trouble = journal_trouble(u->journal);
    if (trouble && !u->troubled) {
        log_err(ABOUT,
                "cannot write to %s: %s; what is durable is refused until it can be written again",
                d->config->durable_path, trouble);
    } else if (!trouble && u->troubled) {
        log_notice(ABOUT, "%s can be written again", d->config->durable_path);
    }
    u->troubled = trouble != NULL;
    d->heard++;
    objects_journal_looked(d);
    durable_tell(d);
}

void durable_tell(struct hearthd *d) {
    struct durable *u = d->durable;
    for (int i = 0; i < DURABLE_LISTENERS; i++) {
        if (u->fn[i]) {
            u->fn[i](d, u->done, journal_trouble(u->journal));
        }
    }
}

static void on_ready(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    look(arg);
}

/* A lock was busy: the next turn tries again. */
static void on_retry(evutil_socket_t fd, short what, void *arg) {
    struct hearthd *d = arg;
    (void)fd;
    (void)what;
    d->heard++;
}

/* Two daemons on one database would both run what is in it, and each delete the rows of the other. */
static int lock_and_open(const char *path, struct durable *u, bool *ret_aside,
                         char why[JOURNAL_WHY]) {
    why[0] = '\0';
    u->lock = -1;
    int r = lockfile_take(path, &u->lock);
    if (r < 0) {
        snprintf(why, JOURNAL_WHY, "%s",
                 r == -EADDRINUSE
                     ? "another daemon has it: stop that first, or choose another durable_path"
                     : strerror(-r));
        return r;
    }
    return journal_open(path, &u->journal, ret_aside, why);
}

int durable_open(struct hearthd *d) {
    const char *path = d->config->durable_path;
    char why[JOURNAL_WHY];
    bool aside = false;
    for (uint32_t i = 0; !*path && i < d->config->n_pools; i++) {
        if (d->config->pools[i].durable) {
            log_err(ABOUT, "pool %s is durable, but there is no database: set durable_path",
                    d->config->pools[i].name);
            return -EINVAL;
        }
    }
    if (!*path) {
        objects_journal_none(d);
        return 0;
    }
    struct durable *u = calloc(1, sizeof(*u));
    if (!u) {
        return -ENOMEM;
    }
    int r = lock_and_open(path, u, &aside, why);
    if (r < 0) {
        log_err(ABOUT, "cannot use the database %s: %s", path, why[0] ? why : strerror(-r));
        lockfile_remove(path, u->lock);
        free(u);
        return r;
    }
    if (aside) {
        log_err(ABOUT,
                "%s was damaged (%s): it is set aside, with the time behind its name, and a new "
                "one is made",
                path, why);
    }
    u->ready = event_new(d->base, journal_fd(u->journal), EV_READ | EV_PERSIST, on_ready, d);
    u->retry = evtimer_new(d->base, on_retry, d);
    d->durable = u;
    if (!u->ready || !u->retry || event_add(u->ready, NULL) < 0) {
        durable_close(d);
        return -ENOMEM;
    }
    log_info(ABOUT, "what is durable is written to %s", path);
    return objects_journal_open(d);
}

void durable_close(struct hearthd *d) {
    struct durable *u = d->durable;
    if (u) {
        if (u->ready) {
            event_free(u->ready);
        }
        if (u->retry) {
            event_free(u->retry);
        }
        journal_close(u->journal);
        lockfile_remove(d->config->durable_path, u->lock);
        free(u);
        d->durable = NULL;
    }
}

void durable_on_change(struct hearthd *d, int which, durable_fn *fn) {
    if (d->durable) {
        d->durable->fn[which] = fn;
    }
}

int durable_may(const struct hearthd *d) {
    return !d->durable ? -ENODEV : d->durable->troubled ? -EIO : 0;
}

const char *durable_why(const struct hearthd *d) {
    const char *why = d->durable ? journal_trouble(d->durable->journal) : NULL;
    return why ? why : "too much waits to be written";
}

bool durable_is_done(const struct hearthd *d, uint64_t batch) {
    return !d->durable || batch <= d->durable->done;
}

uint64_t durable_last(const struct hearthd *d) {
    return d->durable ? d->durable->last : 0;
}

void durable_turn(struct hearthd *d) {
    if (d->durable) {
        objects_journal_turn(d);
        journal_turn(d->durable->journal);
    }
}

void durable_drain(struct hearthd *d, uint64_t until_ns) {
    struct durable *u = d->durable;
    while (u && (u->done < u->last || !objects_journal_is_clean(d)) && !u->troubled &&
           clock_now() < until_ns) {
        u->again = false;
        durable_turn(d);
        poll(&(struct pollfd){.fd = journal_fd(u->journal), .events = POLLIN}, 1,
             u->done < u->last ? 10 : 1);
        look(d);
    }
}

bool durable_has_news(const struct hearthd *d) {
    return objects_journal_has_news(d);
}

bool durable_is_clean(const struct hearthd *d) {
    return !d->durable || objects_journal_is_clean(d);
}

uint64_t durable_next_drain(const struct hearthd *d) {
    const struct durable *u = d->durable;
    return !u ? 0 : u->drains_begun + (dirty_shards(&d->shm) != 0);
}

uint64_t durable_drained(const struct hearthd *d) {
    return d->durable ? d->durable->drains_done : 0;
}

/* ---- writing ---- */

static uint64_t put(struct hearthd *d, enum journal_statement what, const struct journal_value *v,
                    size_t n) {
    uint64_t batch = d->durable ? journal_put(d->durable->journal, what, v, n) : 0;
    if (batch) {
        d->durable->last = batch;
    }
    return batch;
}

/* What to add to CLOCK_MONOTONIC to have the time since 1970, in ns. */
static int64_t clock_distance(void) {
    return (int64_t)(clock_wall_ms() * NS_PER_MS) - (int64_t)clock_now();
}

uint64_t durable_task(struct hearthd *d, uint32_t idx) {
    struct task_view v;
    char id[TASK_ID_TEXT];
    if (task_view(&d->shm, idx, &v) < 0 || v.pool >= d->n_pools) {
        return 0;
    }
    const struct pool *p = &d->pools[v.pool];
    task_id_text(id, v.id, idx);
    int64_t distance = clock_distance();
    const struct journal_value values[] = {
        journal_text(id),
        journal_text(p->config->name),
        journal_text(v.handler < p->n_handlers ? p->handlers[v.handler] : ""),
        journal_blob(v.payload.data, v.payload.len),
        journal_blob(v.args_raw.data, v.args_raw.len),
        journal_int(v.nargs),
        journal_blob(v.policy.data, v.policy.len),
        journal_int(v.uid),
        journal_int((int64_t)v.client),
        journal_int(v.priority),
        journal_int(v.timeout_ms),
        journal_int(((int64_t)v.submitted_ns + distance) / (int64_t)NS_PER_MS),
        journal_int(distance),
    };
    return put(d, JOURNAL_TASK, values, ARRAY_SIZE(values));
}

uint64_t durable_attempt(struct hearthd *d, uint32_t idx) {
    struct task_view v;
    char id[TASK_ID_TEXT];
    if (task_view(&d->shm, idx, &v) < 0) {
        return 0;
    }
    task_id_text(id, v.id, idx);
    const struct journal_value values[] = {journal_text(id), journal_int(v.attempt),
                                           journal_int(v.kills)};
    return put(d, JOURNAL_ATTEMPT, values, ARRAY_SIZE(values));
}

uint64_t durable_end(struct hearthd *d, uint32_t idx, const struct task_view *v) {
    char id[TASK_ID_TEXT];
    uint64_t run = v->started_ns && v->ended_ns > v->started_ns ? v->ended_ns - v->started_ns : 0;
    task_id_text(id, v->id, idx);
    const struct journal_value values[] = {
        journal_text(id),
        journal_text(task_state_names[v->state]),
        journal_text(task_cause_names[v->cause]),
        journal_int(v->code),
        journal_int(v->signal),
        journal_int(v->core),
        journal_blob(v->output.data, v->output.len),
        journal_blob(v->log.data, v->log.len),
        journal_int(v->attempt),
        journal_int((int64_t)clock_wall_ms()),
        journal_int((int64_t)(run / 1000)),
        journal_blob(v->payload.data, v->payload.len),
    };
    return put(d, JOURNAL_END, values, ARRAY_SIZE(values));
}

uint64_t durable_forget(struct hearthd *d, uint32_t idx, uint64_t id) {
    char text[TASK_ID_TEXT];
    task_id_text(text, id, idx);
    const struct journal_value value = journal_text(text);
    return put(d, JOURNAL_FORGET, &value, 1);
}

/* ---- reading ---- */

static int prepare(struct hearthd *d, const char *sql, sqlite3_stmt **ret) {
    sqlite3 *db = journal_reader(d->durable->journal);
    if (sqlite3_prepare_v2(db, sql, -1, ret, NULL) != SQLITE_OK) {
        log_err(ABOUT, "cannot read %s: %s", d->config->durable_path, sqlite3_errmsg(db));
        return -EIO;
    }
    return 0;
}

static struct task_bytes blob(sqlite3_stmt *s, int column) {
    const void *data = sqlite3_column_blob(s, column);
    size_t len = (size_t)sqlite3_column_bytes(s, column);
    return (struct task_bytes){data ? data : "", len};
}

static const char *text(sqlite3_stmt *s, int column) {
    const char *t = (const char *)sqlite3_column_text(s, column);
    return t ? t : "";
}

int durable_handlers(struct hearthd *d, const char *pool, struct buf *ret) {
    sqlite3_stmt *s = NULL;
    if (!d->durable || d->found) {
        return 0;
    }
    int r = prepare(d, "SELECT DISTINCT handler FROM tasks WHERE pool = ?1 ORDER BY 1", &s);
    if (r == 0) {
        sqlite3_bind_text(s, 1, pool, -1, SQLITE_STATIC);
    }
    while (r == 0 && sqlite3_step(s) == SQLITE_ROW) {
        r = buf_append(ret, text(s, 0), strlen(text(s, 0)) + 1);
    }
    sqlite3_finalize(s);
    return r;
}

enum {
    ID,
    POOL,
    HANDLER,
    PAYLOAD,
    ARGS,
    NARGS,
    POLICY,
    UID,
    CLIENT,
    PRIORITY,
    TIMEOUT,
    SUBMITTED,
    CLOCK,
    STATE,
    ATTEMPTS,
    KILLS,
    CAUSE,
    CODE,
    SIGNAL,
    CORE,
    RESULT,
    LOG,
    RUN
};
static const char select_all[] = "SELECT id, pool, handler, payload, args, nargs, policy, uid, "
                                 "client, priority, timeout_ms, submitted_ms,"
                                 " clock_ns, state, attempts, kills, cause, code, signal, core, "
                                 "result, log, run_us FROM tasks ORDER BY id";

static int index_of(const char *name, const char *const *names, int n) {
    for (int i = 0; i < n; i++) {
        if (names[i] && strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return 0;
}

/* Times in a policy, of the clock as it was then, as of the clock as it is now. */
static struct task_bytes move_times(const struct task_bytes *block, int64_t by,
                                    uint8_t out[POLICY_BLOCK_MAX]) {
    static const struct pool_config none; /* what is not named is not put */
    struct policy p;
    policy_get(block, &none, &p);
    uint64_t *const times[] = {&p.due_ns, &p.expire_ns, &p.deadline_ns};
    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        int64_t at = (int64_t)*times[i] + by;
        *times[i] = *times[i] == 0 ? 0 : at > 0 ? (uint64_t)at : 1;
    }
    return (struct task_bytes){out, policy_put(&p, out)};
}

static int restore(struct hearthd *d, sqlite3_stmt *s, struct pool *p, uint64_t id, uint32_t idx) {
    uint8_t block[POLICY_BLOCK_MAX];
    struct task_bytes policy = blob(s, POLICY), raw = blob(s, ARGS), arg;
    struct task_view v = {.args_raw = raw};
    uint32_t nargs = (uint32_t)sqlite3_column_int64(s, NARGS), n = 0;
    _cleanup_free_ struct task_bytes *args = calloc((size_t)nargs + 1, sizeof(*args));
    int64_t move = sqlite3_column_int64(s, CLOCK) - clock_distance();
    int handler = pool_handler(p, text(s, HANDLER), strlen(text(s, HANDLER)));
    if (!args) {
        return -ENOMEM;
    }
    for (size_t at = 0; n < nargs && task_arg(&v, &at, &arg) == 0;) {
        args[n++] = arg;
    }
    struct task_spec spec = {
        .pool = p->index,
        .handler = handler < 0 ? 0 : (uint32_t)handler,
        .timeout_ms = (uint32_t)sqlite3_column_int64(s, TIMEOUT),
        .uid = (uint32_t)sqlite3_column_int64(s, UID),
        .client = (uint64_t)sqlite3_column_int64(s, CLIENT),
        .payload = blob(s, PAYLOAD),
        .args = args,
        .nargs = n,
        .priority = (uint32_t)sqlite3_column_int64(s, PRIORITY),
        .policy = move_times(&policy, move, block),
        .hold = true,
        .id = id,
        .idx = idx,
    };
    struct task_ref ref;
    int r = task_submit(&d->shm, &spec, &ref);
    if (r < 0) {
        return r;
    }
    if (ref.idx != idx) { /* tasks_max has become smaller */
        char now[TASK_ID_TEXT];
        task_id_text(now, id, ref.idx);
        log_warn(ABOUT, "task %s is %s from now on: its record is not there", text(s, ID), now);
        durable_forget(d, idx, id);
        durable_task(d, ref.idx);
    }
    int64_t at = sqlite3_column_int64(s, SUBMITTED) * (int64_t)NS_PER_MS - clock_distance();
    task_set_past(&d->shm, ref.idx, id, at > 0 ? (uint64_t)at : 1,
                  (uint32_t)sqlite3_column_int64(s, ATTEMPTS),
                  (uint32_t)sqlite3_column_int64(s, KILLS));
    int state = index_of(text(s, STATE), task_state_names, TASK_STATES);
    if (!task_state_is_terminal((uint32_t)state)) {
        return 0;
    }
    struct task_bytes result = blob(s, RESULT), log = blob(s, LOG);
    const struct task_outcome o = {
        .state = (enum task_state)state,
        .cause = (enum task_cause)index_of(text(s, CAUSE), task_cause_names, TASK_CAUSES),
        .code = sqlite3_column_int(s, CODE),
        .signal = (uint8_t)sqlite3_column_int(s, SIGNAL),
        .core = (uint8_t)sqlite3_column_int(s, CORE),
    };
    return task_restore_end(&d->shm, ref.idx, id, &o, &result, &log,
                            (uint64_t)sqlite3_column_int64(s, RUN) * 1000);
}

/* Does the segment have it? If its end was told while it could not be written, it is written now. */
static bool is_there(struct hearthd *d, uint64_t id, uint32_t idx, const char *state) {
    struct task_view v;
    if (task_view(&d->shm, idx, &v) < 0 || v.id != id) {
        return false;
    }
    if (task_state_is_terminal(v.state) && task_is_told(&d->shm, idx, id) &&
        !task_state_is_terminal((uint32_t)index_of(state, task_state_names, TASK_STATES))) {
        durable_end(d, idx, &v);
    }
    return true;
}

int durable_recover(struct hearthd *d) {
    sqlite3_stmt *s = NULL;
    uint32_t restored = 0, dropped = 0, orphans = 0;
    if (!d->durable) {
        return 0;
    }
    int r = prepare(d, select_all, &s), k = SQLITE_DONE;
    while (r == 0 && (k = sqlite3_step(s)) == SQLITE_ROW) {
        uint64_t id;
        uint32_t idx;
        const char *name = text(s, POOL);
        if (task_id_parse(text(s, ID), strlen(text(s, ID)), &id, &idx) < 0) {
            log_err(ABOUT, "a row has an id that is none: \"%.40s\"", text(s, ID));
            continue;
        }
        struct pool *p = hearthd_pool(d, name, strlen(name));
        if (is_there(d, id, idx, text(s, STATE))) {
            continue;
        }
        if (d->found) {
            dropped += durable_forget(d, idx, id) != 0;
        } else if (!p) {
            orphans++;
            log_err(ABOUT, "task %s stays in the database: there is no pool %s", text(s, ID), name);
        } else {
            r = restore(d, s, p, id, idx);
            restored++;
        }
    }
    sqlite3_finalize(s);
    if (r == 0 && k != SQLITE_DONE) {
        log_err(ABOUT, "cannot read %s: %s", d->config->durable_path,
                sqlite3_errmsg(journal_reader(d->durable->journal)));
        r = -EIO;
    } else if (r < 0) {
        log_err(ABOUT, "cannot restore the durable tasks: %s%s", strerror(-r),
                r == -ENOMEM ? "; make segment_size larger" : "");
    }
    if (r == 0 && (dropped || orphans)) {
        log_info(ABOUT,
                 "%u rows of tasks that are over were deleted, %u are of pools that are not there",
                 dropped, orphans);
    }
    if (r == 0 && restored) {
        log_notice(ABOUT, "restored %u durable tasks", restored);
        d->restored = true;
    }
    return r;
}
