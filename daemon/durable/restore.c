/* SPDX-License-Identifier: MIT */
/* Durable objects at the start. A segment that is new gets what the database has, before any worker runs. A segment that a former
 * daemon left is the better witness: what it has noted is written down as ever, keys that the database does not know (it was
 * set aside) are noted whole, and rows of keys that it does not have are deleted.
 *
 * What is restored belongs to the daemon's own user. A time to live goes on by the wall clock.
 *
 * Fails: -ENOMEM when the segment is too small for what the database has, -EIO; logged, and the daemon does not start: it would lose
 * what was promised. */
#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#include "daemon/durable/objects.h"
#include "daemon/log.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/layout.h"
#include "lib/shm/dirty.h"
#include "lib/shm/list.h"
#include "lib/shm/op.h"

#define ABOUT LOG_ABOUT(.message = MESSAGE_DURABLE)

#define PATIENCE_NS NS_PER_SEC /* workers of the former daemon may be at it */

static int prepare(struct hearthd *d, const char *sql, sqlite3_stmt **ret) {
    sqlite3 *db = journal_reader(d->durable->journal);
    return sqlite3_prepare_v2(db, sql, -1, ret, NULL) == SQLITE_OK ? 0 : -EIO;
}

static struct task_bytes bytes(sqlite3_stmt *s, int column) {
    const void *data = sqlite3_column_blob(s, column);
    return (struct task_bytes){data ? data : "", (size_t)sqlite3_column_bytes(s, column)};
}

/* The row of a key that is not there goes, and with it what belongs to it. */
static int drop_row(struct hearthd *d, struct task_bytes name) {
    static const enum journal_statement what[] = {JOURNAL_FIELDS_GONE, JOURNAL_ITEMS_GONE,
                                                  JOURNAL_KEY_GONE};
    const struct journal_value v = journal_name(name.data, name.len);
    for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
        uint64_t batch = journal_put_known(d->durable->journal, what[i], &v, 1);
        if (!batch) {
            return -ENOMEM;
        }
        d->durable->last = batch;
    }
    return 0;
}

/* ---- into a new segment ---- */

struct restore {
    struct key_name name;
    enum key_type type;
    uint64_t expires;
    struct task_bytes value, field;
    int64_t position;
};

static int set_expiry(struct shm *s, const struct restore *w) {
    struct key key;
    int r = w->expires ? key_find_write(s, &w->name, &key) : -ENOENT;
    return r == 0 ? key_set_expire(s, &key, w->expires) : r == -ENOENT ? 0 : r;
}

static int put_value(struct shm *s, void *arg) {
    const struct restore *w = arg;
    int r = value_set(s, &w->name, w->value.data, w->value.len, false);
    return r ? r : set_expiry(s, w);
}

static int put_field(struct shm *s, void *arg) {
    const struct restore *w = arg;
    struct dict dict;
    int r = dict_open(s, &w->name, true, &dict);
    r = r ? r : dict_put(s, &dict, w->field.data, w->field.len, w->value.data, w->value.len);
    r = r < 0 ? r : dict_close(s, &dict);
    return r ? r : set_expiry(s, w);
}

static int put_item(struct shm *s, void *arg) {
    const struct restore *w = arg;
    struct list_object list;
    int r = list_open(s, &w->name, true, &list);
    if (r == 0 && list_count(&list) == 0) {
        r = list_set_base(s, &list, w->position);
    }
    r = r ? r : list_push(s, &list, false, w->value.data, w->value.len);
    r = r ? r : list_close(s, &list);
    return r ? r : set_expiry(s, w);
}

static int put_parts(struct hearthd *d, struct restore *w, sqlite3_stmt *s) {
    int r = 0, k = SQLITE_DONE;
    uint64_t shard = key_shard_bit(&w->name);
    sqlite3_bind_text64(s, 1, w->name.word.data, w->name.word.len, SQLITE_STATIC, SQLITE_UTF8);
    while (r == 0 && (k = sqlite3_step(s)) == SQLITE_ROW) {
        w->value = bytes(s, 1);
        w->field = w->type == KEY_DICT ? bytes(s, 0) : (struct task_bytes){0};
        w->position = w->type == KEY_DICT ? 0 : sqlite3_column_int64(s, 0);
        r = op_run(&d->shm, shard, w->type == KEY_DICT ? put_field : put_item, w);
        w->expires = 0;
    }
    sqlite3_reset(s);
    return r < 0 ? r : k == SQLITE_DONE ? 0 : -EIO;
}

static enum key_type type_of(sqlite3_stmt *s, int column) {
    const char *name = (const char *)sqlite3_column_text(s, column);
    for (enum key_type i = KEY_VALUE; name && i <= KEY_LIST; i++) {
        if (strcmp(name, key_type_names[i]) == 0) {
            return i;
        }
    }
    return KEY_NONE;
}

/* A row of key_values. 1: restored. */
static int put_key(struct hearthd *d, sqlite3_stmt *s, sqlite3_stmt *fields, sqlite3_stmt *items) {
    struct task_bytes name = bytes(s, 0);
    struct restore w = {.name = key_name(&d->shm, name.data, name.len),
                        .type = type_of(s, 1),
                        .value = bytes(s, 2),
                        .expires = (uint64_t)sqlite3_column_int64(s, 3)};
    int r = 0;
    if (w.expires && w.expires <= clock_wall_ms()) {
        return drop_row(d, name);
    }
    switch (w.type) {
    case KEY_VALUE:
        r = op_run(&d->shm, key_shard_bit(&w.name), put_value, &w);
        break;
    case KEY_DICT:
        r = put_parts(d, &w, fields);
        break;
    case KEY_LIST:
        r = put_parts(d, &w, items);
        break;
    default:
        log_err(ABOUT, "%.*s stays in the database: of an unknown type", (int)name.len,
                (const char *)name.data);
        return 0;
    }
    return r < 0 ? r : 1;
}

static int put_all(struct hearthd *d, uint64_t *ret_n) {
    sqlite3_stmt *keys = NULL, *fields = NULL, *items = NULL;
    uint64_t n = 0;
    int k = SQLITE_DONE;
    int r = prepare(d, "SELECT key, type, value, expires_ms FROM key_values", &keys);
    r = r ? r : prepare(d, "SELECT field, value FROM dict_fields WHERE key = ?1", &fields);
    r = r ? r
          : prepare(d, "SELECT position, value FROM list_items WHERE key = ?1 ORDER BY position",
                    &items);
    while (r >= 0 && (k = sqlite3_step(keys)) == SQLITE_ROW) {
        r = put_key(d, keys, fields, items);
        n += r > 0;
    }
    sqlite3_finalize(keys);
    sqlite3_finalize(fields);
    sqlite3_finalize(items);
    *ret_n = n;
    return r < 0 ? r : k == SQLITE_DONE ? 0 : -EIO;
}

static int failed(struct hearthd *d, int r) {
    log_err(ABOUT, "cannot restore the durable objects of %s: %s%s", d->config->durable_path,
            r == -EIO ? sqlite3_errmsg(journal_reader(d->durable->journal)) : strerror(-r),
            r == -ENOMEM ? "; make segment_size larger" : "");
    return r;
}

int objects_restore(struct hearthd *d) {
    uint64_t n = 0;
    d->shm.op_restoring = true;
    int r = put_all(d, &n);
    d->shm.op_restoring = false;
    if (r < 0) {
        return failed(d, r);
    }
    if (n) {
        log_notice(ABOUT, "restored %llu durable objects", (unsigned long long)n);
    }
    return 0;
}

/* ---- with the segment of a former daemon ---- */

struct known {
    struct shm *shm;
    sqlite3_stmt *find;
    unsigned shard;
};

static int note_unknown(void *arg, const void *name, size_t len, const struct shm_key *k) {
    const struct known *w = arg;
    struct key_name n = key_name(w->shm, name, len);
    (void)k;
    if (!dirty_is_durable(&n)) {
        return 0;
    }
    sqlite3_bind_text64(w->find, 1, name, len, SQLITE_STATIC, SQLITE_UTF8);
    int r = sqlite3_step(w->find);
    sqlite3_reset(w->find);
    return r == SQLITE_DONE ? dirty_key(w->shm, &n, true) : r == SQLITE_ROW ? 0 : -EIO;
}

static int note_shard(struct shm *s, void *arg) {
    struct known *w = arg;
    uint64_t cursor = w->shard;
    int r = 0;
    do {
        r = keys_scan(s, &cursor, note_unknown, w);
    } while (r == 0 && cursor && keys_cursor_shard(cursor) == w->shard);
    return r;
}

static int find_key(struct shm *s, void *arg) {
    struct key key;
    return key_find(s, arg, &key);
}

/* *ret_n: how many keys both know. */
static int drop_rows(struct hearthd *d, uint64_t *ret_n) {
    sqlite3_stmt *s = NULL;
    uint64_t n = 0;
    int r = prepare(d, "SELECT key FROM key_values", &s), k = SQLITE_DONE;
    while (r == 0 && (k = sqlite3_step(s)) == SQLITE_ROW) {
        struct task_bytes b = bytes(s, 0);
        struct key_name name = key_name(&d->shm, b.data, b.len);
        r = op_run(&d->shm, key_shard_bit(&name), find_key, &name);
        n += r == 0;
        r = r == -ENOENT ? drop_row(d, b) : r;
    }
    sqlite3_finalize(s);
    *ret_n = n;
    return r ? r : k == SQLITE_DONE ? 0 : -EIO;
}

int objects_reconcile(struct hearthd *d) {
    struct known w = {.shm = &d->shm};
    uint64_t patience = d->shm.patience_ns;
    uint64_t both = 0;
    int r = prepare(d, "SELECT 1 FROM key_values WHERE key = ?1", &w.find);
    dirty_set_state(&d->shm, DIRTY_READY);
    d->shm.patience_ns = PATIENCE_NS;
    r = r ? r : drop_rows(d, &both);
    bool all = both == dirty_keys(&d->shm); /* as ever: nothing is looked for among the others */
    for (w.shard = 0; r == 0 && !all && w.shard < SHM_SHARDS; w.shard++) {
        if (dirty_keys_in(&d->shm, w.shard)) {
            r = op_run(&d->shm, UINT64_C(1) << w.shard, note_shard, &w);
        }
    }
    sqlite3_finalize(w.find);
    d->shm.patience_ns = patience;
    return r ? failed(d, r) : 0;
}
