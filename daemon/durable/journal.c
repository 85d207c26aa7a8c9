/* SPDX-License-Identifier: MIT */
/* The writer's thread and its batches.
 *
 *   loop:    put put put | turn: hands the batch over          put put | turn ...
 *   thread:                BEGIN, every change, COMMIT (fsync)           BEGIN ...
 *
 * WAL with synchronous = FULL: a COMMIT that has returned survives the loss of power. What a batch holds are whole changes
 * with their values copied, so the thread reads nothing else of the daemon's. A batch that cannot be written (the disk is
 * full) stays and is tried again every second; nothing overtakes it, so the order of changes is that in which they were put.
 *
 * The thread blocks all signals and never logs. One lock is held for a few loads and stores, never over a system call of SQLite's.
 *
 * Fails: as journal.h says. */
#include "daemon/durable/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"

enum {
    APPLICATION = 0x48525448, /* "HRTH" */
    VERSION = 2,
    RETRY_S = 1,
    VALUES_MAX = 32,
};
#define WAITING_MAX (UINT64_C(512) << 20) /* bytes */

static const char *const statements[JOURNAL_STATEMENTS] = {
#define STATEMENT(name, sql) [JOURNAL_##name] = sql,
#include "daemon/durable/journal.def"
#undef STATEMENT
};

/* From each version to the next; an empty database is of version 0. */
static const char *const schema[VERSION] = {
    "CREATE TABLE tasks("
    " id TEXT PRIMARY KEY, pool TEXT NOT NULL, handler TEXT NOT NULL, payload BLOB, args BLOB, "
    "nargs INTEGER,"
    " policy BLOB, uid INTEGER, client INTEGER, priority INTEGER, timeout_ms INTEGER,"
    " submitted_ms INTEGER, clock_ns INTEGER, state TEXT NOT NULL, attempts INTEGER, kills INTEGER,"
    " cause TEXT, code INTEGER, signal INTEGER, core INTEGER, result BLOB, log BLOB, ended_ms "
    "INTEGER,"
    " run_us INTEGER) WITHOUT ROWID;",
    "CREATE TABLE IF NOT EXISTS key_values(key TEXT PRIMARY KEY, type TEXT NOT NULL, value BLOB, "
    "expires_ms "
    "INTEGER) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS dict_fields(key TEXT, field TEXT, value BLOB, PRIMARY KEY(key, "
    "field)) WITHOUT "
    "ROWID;"
    "CREATE TABLE IF NOT EXISTS list_items(key TEXT, position INTEGER, value BLOB, PRIMARY "
    "KEY(key, position))"
    " WITHOUT ROWID;",
};

struct journal {
    sqlite3 *db;
    sqlite3_stmt *stmt[JOURNAL_STATEMENTS]; /* the thread's */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    int fd;
    struct buf filling; /* the loop's */
    uint64_t number;    /* of the batch that fills */
    /* under the lock: */
    struct buf batch; /* empty: the thread is idle */
    uint64_t done, writing;
    bool leave;
    char trouble[JOURNAL_WHY];
    /* the loop's copy */
    char told[JOURNAL_WHY];
};

struct journal_value journal_text(const char *text) {
    return (struct journal_value){
        .type = text ? JOURNAL_TEXT : JOURNAL_NULL, .data = text, .len = text ? strlen(text) : 0};
}

/* ---- a change in a batch: head, then for each value its head and its bytes ---- */

struct change {
    uint32_t what, n;
};
struct part {
    int64_t i;
    uint32_t type, pad;
    uint64_t len;
};

static uint64_t put(struct journal *j, enum journal_statement what, const struct journal_value *v,
                    size_t n, size_t max) {
    const struct change head = {what, (uint32_t)n};
    size_t before = buf_len(&j->filling), size = sizeof(head);
    assert(n <= VALUES_MAX);
    for (size_t i = 0; i < n; i++) {
        size += sizeof(struct part) + v[i].len;
    }
    if (before + size > max || !buf_room(&j->filling, size)) {
        return 0;
    }
    int r = buf_append(&j->filling, &head, sizeof(head));
    for (size_t i = 0; i < n && r == 0; i++) {
        const struct part p = {v[i].i, v[i].type, 0, v[i].len};
        r = buf_append(&j->filling, &p, sizeof(p));
        r = r == 0 && v[i].len ? buf_append(&j->filling, v[i].data, v[i].len) : r;
    }
    assert(r == 0); /* there was room */
    return j->number;
}

uint64_t journal_put(struct journal *j, enum journal_statement what, const struct journal_value *v,
                     size_t n) {
    return put(j, what, v, n, WAITING_MAX);
}

uint64_t journal_put_known(struct journal *j, enum journal_statement what,
                           const struct journal_value *v, size_t n) {
    return put(j, what, v, n, SIZE_MAX);
}

void journal_back(struct journal *j, uint64_t bytes) {
    j->filling.tail = j->filling.head + bytes;
}

/* ---- the thread ---- */

static int bind(sqlite3_stmt *s, int at, const struct part *p, const void *data) {
    switch (p->type) {
    case JOURNAL_INT:
        return sqlite3_bind_int64(s, at, p->i);
    case JOURNAL_TEXT:
        return sqlite3_bind_text64(s, at, data, p->len, SQLITE_STATIC, SQLITE_UTF8);
    case JOURNAL_BLOB:
        return sqlite3_bind_blob64(s, at, p->len ? data : "", p->len, SQLITE_STATIC);
    default:
        return sqlite3_bind_null(s, at);
    }
}

/* The change at *at, which then is the next. SQLITE_OK, or the error. */
static int run_one(struct journal *j, const struct buf *b, size_t *at) {
    const char *p = buf_head(b) + *at;
    struct change head;
    memcpy(&head, p, sizeof(head));
    p += sizeof(head);
    sqlite3_stmt *s = j->stmt[head.what];
    int r = SQLITE_OK;
    for (uint32_t i = 0; i < head.n; i++) {
        struct part part;
        memcpy(&part, p, sizeof(part));
        p += sizeof(part);
        r = r == SQLITE_OK ? bind(s, (int)i + 1, &part, p) : r;
        p += part.len;
    }
    *at = (size_t)(p - buf_head(b));
    r = r == SQLITE_OK ? sqlite3_step(s) : r;
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return r == SQLITE_DONE || r == SQLITE_ROW ? SQLITE_OK : r;
}

static int run_batch(struct journal *j, const struct buf *b) {
    int moved = 0;
    int r = sqlite3_exec(j->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (size_t at = 0; r == SQLITE_OK && at < buf_len(b);) {
        r = run_one(j, b, &at);
    }
    r = r == SQLITE_OK ? sqlite3_exec(j->db, "COMMIT", NULL, NULL, NULL) : r;
    if (r == SQLITE_OK &&
        sqlite3_file_control(j->db, NULL, SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved) {
        return SQLITE_READONLY_DBMOVED; /* into a file that has no name any more */
    }
    return r;
}

static const char *what_is_wrong(const struct journal *j, int r) {
    return r == SQLITE_READONLY_DBMOVED
               ? "the file has been removed or replaced: start the daemon anew"
               : sqlite3_errmsg(j->db);
}

/* Waits for a batch, or between two tries of one. False: it is to leave. */
static bool wait_for_work(struct journal *j, bool failed) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += RETRY_S;
    int r = 0;
    while (!j->leave && r != ETIMEDOUT && (failed || buf_len(&j->batch) == 0)) {
        r = failed ? pthread_cond_timedwait(&j->work, &j->lock, &until)
                   : pthread_cond_wait(&j->work, &j->lock);
    }
    return !j->leave || (buf_len(&j->batch) > 0 && !failed);
}

static void *write_all(void *arg) {
    struct journal *j = arg;
    const uint64_t one = 1;
    bool failed = false;
    pthread_mutex_lock(&j->lock);
    while (wait_for_work(j, failed)) {
        char why[JOURNAL_WHY] = "";
        pthread_mutex_unlock(&j->lock);
        int r = run_batch(j, &j->batch);
        failed = r != SQLITE_OK;
        if (failed) {
            snprintf(why, sizeof(why), "%s", what_is_wrong(j, r));
            sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
        }
        pthread_mutex_lock(&j->lock);
        memcpy(j->trouble, why, sizeof(why));
        if (!failed) {
            buf_clear(&j->batch);
            j->done = j->writing;
        }
        (void)!write(j->fd, &one, sizeof(one)); /* full: the loop will be woken all the same */
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* ---- the loop's side ---- */

void journal_turn(struct journal *j) {
    if (buf_len(&j->filling) == 0) {
        return;
    }
    pthread_mutex_lock(&j->lock);
    if (buf_len(&j->batch) == 0) {
        struct buf free = j->batch;
        j->batch = j->filling;
        j->filling = free;
        j->writing = j->number++;
        pthread_cond_signal(&j->work);
    }
    pthread_mutex_unlock(&j->lock);
}

int journal_fd(const struct journal *j) {
    return j->fd;
}

uint64_t journal_done(struct journal *j) {
    uint64_t n;
    if (read(j->fd, &n, sizeof(n)) < 0) {
        n = 0; /* nothing new */
    }
    pthread_mutex_lock(&j->lock);
    n = j->done;
    memcpy(j->told, j->trouble, sizeof(j->told));
    pthread_mutex_unlock(&j->lock);
    return n;
}

const char *journal_trouble(struct journal *j) {
    return j->told[0] ? j->told : NULL;
}

uint64_t journal_filling(const struct journal *j) {
    return j->number;
}

uint64_t journal_waiting_bytes(const struct journal *j) {
    return buf_len(&j->filling);
}

/* ---- opening ---- */

static int number_of(sqlite3 *db, const char *pragma, int *ret) {
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, pragma, -1, &s, NULL);
    r = r == SQLITE_OK ? sqlite3_step(s) : r;
    *ret = r == SQLITE_ROW ? sqlite3_column_int(s, 0) : 0;
    sqlite3_finalize(s);
    return r == SQLITE_ROW ? SQLITE_OK : r;
}

/* Brings a database of that version to ours, as one transaction. */
static int make_schema(sqlite3 *db, int version) {
    char pragmas[128];
    snprintf(pragmas, sizeof(pragmas), "PRAGMA application_id = %d; PRAGMA user_version = %d;",
             APPLICATION, VERSION);
    int r = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (int i = version; r == SQLITE_OK && i < VERSION; i++) {
        r = sqlite3_exec(db, schema[i], NULL, NULL, NULL);
    }
    r = r == SQLITE_OK ? sqlite3_exec(db, pragmas, NULL, NULL, NULL) : r;
    return r == SQLITE_OK ? sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) : r;
}

/* "ok", or what is wrong with it. */
static int check_whole(sqlite3 *db, char why[JOURNAL_WHY]) {
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL);
    r = r == SQLITE_OK ? sqlite3_step(s) : r;
    const char *said = r == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : "";
    int whole = r == SQLITE_ROW && strcmp(said, "ok") == 0 ? SQLITE_OK : SQLITE_CORRUPT;
    if (whole != SQLITE_OK && r == SQLITE_ROW) {
        snprintf(why, JOURNAL_WHY, "%s", said);
    }
    sqlite3_finalize(s);
    return r == SQLITE_ROW ? whole : r;
}

/* Opens and looks. SQLITE_OK; SQLITE_NOTADB, SQLITE_CORRUPT: not to be used; SQLITE_MISMATCH: of a later version. */
static int open_db(const char *path, sqlite3 **ret, char why[JOURNAL_WHY]) {
    int version = 0, application = 0;
    /* For its owner's eyes, like the segment; whoever is let in later (chmod) is let into -wal and -shm by SQLite. */
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd >= 0) {
        close(fd);
    } /* else it is there, or SQLite says what is wrong */
    int r = sqlite3_open_v2(path, ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (r == SQLITE_OK) {
        sqlite3_busy_timeout(*ret, 5000); /* somebody inspects it */
        r = sqlite3_exec(*ret, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", NULL, NULL,
                         NULL);
    }
    r = r == SQLITE_OK ? number_of(*ret, "PRAGMA application_id", &application) : r;
    r = r == SQLITE_OK ? number_of(*ret, "PRAGMA user_version", &version) : r;
    if (r == SQLITE_OK && application == 0 && version == 0) {
        r = make_schema(*ret, 0);
    } else if (r == SQLITE_OK && application != APPLICATION) {
        snprintf(why, JOURNAL_WHY, "it is no database of Hearth's");
        return SQLITE_NOTADB;
    } else if (r == SQLITE_OK && version > VERSION) {
        snprintf(why, JOURNAL_WHY, "its schema is of version %d, this is for %d", version, VERSION);
        return SQLITE_MISMATCH;
    } else if (r == SQLITE_OK && version < VERSION) {
        r = make_schema(*ret, version);
    }
    for (int i = 0; r == SQLITE_OK && i < JOURNAL_STATEMENTS; i++) {
        sqlite3_stmt *s = NULL;
        r = sqlite3_prepare_v2(*ret, statements[i], -1, &s, NULL);
        sqlite3_finalize(s);
    }
    why[0] = '\0';
    r = r == SQLITE_OK ? check_whole(*ret, why) : r;
    if (r != SQLITE_OK && !why[0]) {
        snprintf(why, JOURNAL_WHY, "%s", *ret ? sqlite3_errmsg(*ret) : "out of memory");
    }
    return r;
}

static int set_aside(const char *path) {
    char to[4096], from[4096];
    int n = snprintf(to, sizeof(to), "%s.%lld", path, (long long)time(NULL));
    if (n < 0 || (size_t)n >= sizeof(to) - 8 || rename(path, to) < 0) {
        return -errno;
    }
    static const char *const more[] = {"-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
        snprintf(from, sizeof(from), "%s%s", path, more[i]);
        snprintf(to + n, sizeof(to) - (size_t)n, "%s", more[i]);
        if (rename(from, to) < 0 && errno != ENOENT) {
            return -errno;
        }
    }
    return 0;
}

static int prepare(struct journal *j, char why[JOURNAL_WHY]) {
    for (int i = 0; i < JOURNAL_STATEMENTS; i++) {
        if (sqlite3_prepare_v3(j->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &j->stmt[i],
                               NULL) != SQLITE_OK) {
            snprintf(why, JOURNAL_WHY, "%s", sqlite3_errmsg(j->db));
            return -EINVAL;
        }
    }
    return 0;
}

static int start(struct journal *j) {
    sigset_t all, old;
    j->number = 1;
    j->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (j->fd < 0) {
        return -errno;
    }
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->work, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&j->thread, NULL, write_all, j);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r) {
        close(j->fd);
        return -r;
    }
    return 0;
}

static void close_db(struct journal *j) {
    for (int i = 0; i < JOURNAL_STATEMENTS; i++) {
        sqlite3_finalize(j->stmt[i]);
    }
    sqlite3_close(j->db);
}

int journal_open(const char *path, struct journal **ret, bool *ret_aside, char why[JOURNAL_WHY]) {
    struct journal *j = calloc(1, sizeof(*j));
    if (!j) {
        snprintf(why, JOURNAL_WHY, "out of memory");
        return -ENOMEM;
    }
    why[0] = '\0';
    *ret_aside = false;
    int k = open_db(path, &j->db, why), r = 0;
    if (k == SQLITE_NOTADB || k == SQLITE_CORRUPT || (k == SQLITE_ERROR && j->db)) {
        char again[JOURNAL_WHY];
        sqlite3_close(j->db);
        j->db = NULL;
        r = set_aside(path);
        *ret_aside = r == 0;
        k = r == 0 ? open_db(path, &j->db, again) : k;
    }
    if (k != SQLITE_OK) {
        r = k == SQLITE_MISMATCH ? -EPROTO : r < 0 ? r : -EIO;
    }
    r = r < 0 ? r : prepare(j, why);
    r = r < 0 ? r : start(j);
    if (r < 0) {
        close_db(j);
        free(j);
        return r;
    }
    *ret = j;
    return 0;
}

struct sqlite3 *journal_reader(struct journal *j) {
    return j->db;
}

struct journal *journal_close(struct journal *j) {
    if (!j) {
        return NULL;
    }
    pthread_mutex_lock(&j->lock);
    j->leave = true;
    pthread_cond_signal(&j->work);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    if (buf_len(&j->batch) > 0 && run_batch(j, &j->batch) != SQLITE_OK) {
        sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    } else if (buf_len(&j->filling) > 0 && run_batch(j, &j->filling) != SQLITE_OK) {
        sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    }
    close_db(j);
    close(j->fd);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->work);
    buf_deinit(&j->batch);
    buf_deinit(&j->filling);
    free(j);
    return NULL;
}
