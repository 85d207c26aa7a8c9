/* SPDX-License-Identifier: MIT */
/* From the segment's journal to the database.
 *
 *   nothing --something is noted--> copied into the batch that fills --COMMIT--> on the disk --cleared--> nothing
 *                                   (drain begun)                     (drain done)
 *
 * One drain at a time: what is noted meanwhile waits for the next, which is group commit again. A drain is one operation
 * on all shards that have something, so each operation on the objects is in it whole or not at all; and each entry is
 * written as its subject is now, so it does no harm to write one twice, as happens when we are killed between COMMIT and clearing.
 * Before an entry is cleared it is on the disk.
 *
 * Replies wait for a drain that begins after their command (serve/hold.c), sleepers in the segment likewise (dirty_sync()).
 *
 * Fails: a busy lock, or no memory for the copies: tried again in a millisecond. A disk that is full: the header says so, and
 * whoever wants to change a durable key is refused, in every process, until it can be written again. */
#include "daemon/durable/objects.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "daemon/log.h"
#include "lib/base/cpu.h"
#include "lib/shm/dirty.h"
#include "lib/shm/list.h"

#define ABOUT LOG_ABOUT(.message = MESSAGE_DURABLE)

enum { TRIES = 200, CLEAR_OPS = 256, RETRY_US = 1000 };

/* ---- what an entry becomes ---- */

struct drain {
    struct durable *u;
    uint64_t before; /* bytes of the batch that fills */
};

static void begin(void *arg) {
    struct drain *w = arg;
    journal_back(w->u->journal, w->before);
}

/* -EAGAIN without memory: later. */
static int put(struct drain *w, enum journal_statement what, const struct journal_value *v,
               size_t n) {
    uint64_t batch = journal_put_known(w->u->journal, what, v, n);
    w->u->last = batch ? batch : w->u->last;
    return batch ? 0 : -EAGAIN;
}

static struct journal_value name_of(const struct key_name *n) {
    return journal_name(n->word.data, n->word.len);
}

static int put_gone(struct drain *w, const struct key_name *name, bool key_too) {
    static const enum journal_statement what[] = {JOURNAL_FIELDS_GONE, JOURNAL_ITEMS_GONE,
                                                  JOURNAL_KEY_GONE};
    const struct journal_value v = name_of(name);
    int r = 0;
    for (int i = 0; r == 0 && i < (key_too ? 3 : 2); i++) {
        r = put(w, what[i], &v, 1);
    }
    return r;
}

static int put_head(struct drain *w, struct shm *s, const struct key *key) {
    char digits[24];
    bool value = key_type(key) == KEY_VALUE;
    struct task_bytes b = value ? value_bytes(s, key, digits) : (struct task_bytes){0};
    uint64_t at = key_expire(key);
    const struct journal_value none = {.type = JOURNAL_NULL};
    const struct journal_value v[] = {
        name_of(&key->name), journal_text(key_type_names[key_type(key)]),
        value ? journal_blob(b.data, b.len) : none, at ? journal_int((int64_t)at) : none};
    return put(w, JOURNAL_KEY, v, 4);
}

static int put_field(struct drain *w, const struct key_name *name, struct task_bytes field,
                     const struct task_bytes *value) {
    struct journal_value v[] = {name_of(name), journal_name(field.data, field.len), {0}};
    if (!value) {
        return put(w, JOURNAL_FIELD_GONE, v, 2);
    }
    v[2] = journal_blob(value->data, value->len);
    return put(w, JOURNAL_FIELD, v, 3);
}

static int put_item(struct drain *w, const struct key_name *name, int64_t position,
                    struct task_bytes value) {
    const struct journal_value v[] = {name_of(name), journal_int(position),
                                      journal_blob(value.data, value.len)};
    return put(w, JOURNAL_ITEM, v, 3);
}

/* ---- a whole key ---- */

struct whole {
    struct drain *w;
    struct shm *s;
    const struct key_name *name;
    uint64_t base;
};

static int whole_field(void *arg, struct shm_node *n) {
    const struct whole *k = arg;
    struct task_bytes field, value;
    field.data = hash_key(k->s, n, &field.len);
    value.data = hash_value(k->s, n, &value.len);
    return field.data && value.data ? put_field(k->w, k->name, field, &value) : -EBADMSG;
}

static int whole_element(void *arg, uint64_t index, const void *data, size_t len) {
    const struct whole *k = arg;
    return put_item(k->w, k->name, (int64_t)(k->base + index), (struct task_bytes){data, len});
}

static int put_whole(struct drain *w, struct shm *s, const struct key *key) {
    struct whole k = {w, s, &key->name, 0};
    int r = put_gone(w, &key->name, false);
    r = r ? r : put_head(w, s, key);
    if (r == 0 && key_type(key) == KEY_DICT) {
        struct dict dict;
        uint64_t cursor = 0;
        r = dict_open(s, &key->name, false, &dict);
        while (r == 0) {
            r = hash_scan(s, dict.fields, &cursor, whole_field, &k);
            if (cursor == 0) {
                break;
            }
        }
    } else if (r == 0 && key_type(key) == KEY_LIST) {
        struct list_object list;
        r = list_open(s, &key->name, false, &list);
        k.base = r ? 0 : (uint64_t)list_base(&list);
        r = r ? r : list_walk(s, &list, 0, false, whole_element, &k);
    }
    return r == -ESTALE ? -EBADMSG : r;
}

/* ---- one entry ---- */

static int put_key(struct drain *w, struct shm *s, const struct dirty *e) {
    struct key key;
    struct list_object list;
    int r = key_find(s, &e->name, &key);
    if (r) {
        return r == -ENOENT ? put_gone(w, &e->name, true) : r;
    }
    if (e->whole) {
        return put_whole(w, s, &key);
    }
    r = put_head(w, s, &key);
    if (r || key_type(&key) != KEY_LIST) {
        return r;
    }
    r = list_open(s, &e->name, false, &list);
    if (r == 0) {
        int64_t from = list_base(&list), to = from + (int64_t)list_count(&list);
        const struct journal_value v[] = {name_of(&e->name), journal_int(from)};
        const struct journal_value v2[] = {name_of(&e->name), journal_int(to)};
        r = put(w, JOURNAL_ITEMS_BEFORE_GONE, v, 2);
        r = r ? r : put(w, JOURNAL_ITEMS_FROM_GONE, v2, 2);
    }
    return r;
}

/* What a key is no more, or what is not there any more, its own entry tells. */
static int put_part(struct drain *w, struct shm *s, const struct dirty *e) {
    struct dict dict;
    struct list_object list;
    struct task_bytes b;
    int r;
    if (e->kind == DIRTY_FIELD) {
        r = dict_open(s, &e->name, false, &dict);
        if (r == 0) {
            r = dict_get(s, &dict, e->field.data, e->field.len, &b);
            r = r && r != -ENOENT ? r : put_field(w, &e->name, e->field, r ? NULL : &b);
        }
    } else {
        r = list_open(s, &e->name, false, &list);
        int64_t index = r ? -1 : e->position - list_base(&list);
        if (index >= 0 && (uint64_t)index < list_count(&list)) {
            r = list_at(s, &list, (uint64_t)index, &b);
            r = r ? r : put_item(w, &e->name, e->position, b);
        }
    }
    return r == -ENOENT || r == -EPROTOTYPE ? 0 : r;
}

static int put_entry(void *arg, struct shm *s, const struct dirty *e) {
    int r = e->kind == DIRTY_KEY ? put_key(arg, s, e) : put_part(arg, s, e);
    return r == -ESTALE ? -EBADMSG : r;
}

/* ---- drains ---- */

static void say(struct hearthd *d) {
    struct durable *u = d->durable;
    dirty_say(&d->shm, (uint32_t)u->drains_begun, (uint32_t)u->drains_done);
}

static void try_later(struct durable *u) {
    u->again = true;
    event_add(u->retry, &(struct timeval){.tv_usec = RETRY_US});
}

/* Copies all that is noted: every shard at once, or none. */
static void drain(struct hearthd *d) {
    struct durable *u = d->durable;
    struct drain w = {u, journal_waiting_bytes(u->journal)};
    uint64_t shards = dirty_shards(&d->shm);
    int r = -EAGAIN;
    dirty_asked(&d->shm);
    for (int i = 0; r == -EAGAIN && i < TRIES; i++) {
        r = dirty_take(&d->shm, shards, begin, put_entry, &w);
        if (r == -EAGAIN) {
            cpu_pause();
        }
    }
    if (r < 0) {
        begin(&w);
        if (r != -EAGAIN && !u->complained) {
            u->complained = true;
            log_err(ABOUT, "cannot write down what has changed: %s", strerror(-r));
        }
        try_later(u);
        return;
    }
    u->complained = false;
    u->drains_begun++;
    u->batch = r > 0 ? journal_filling(u->journal) : 0;
    u->taken = shards;
    if (!u->batch) {
        u->drains_done = u->drains_begun;
    }
    say(d);
    if (!u->batch) {
        durable_tell(d);
    }
}

static void clear(struct hearthd *d) {
    struct durable *u = d->durable;
    int ops = CLEAR_OPS;
    while (u->taken && ops-- > 0) {
        int r = dirty_clear(&d->shm, (unsigned)__builtin_ctzll(u->taken));
        if (r == -EAGAIN) {
            break;
        }
        if (r <= 0) { /* damaged: nothing can be done about it */
            u->taken &= u->taken - 1;
        }
    }
    u->clearing = u->taken != 0;
    if (u->clearing) {
        try_later(u);
    } else {
        u->batch = 0;
    }
}

void objects_journal_looked(struct hearthd *d) {
    struct durable *u = d->durable;
    dirty_set_state(&d->shm, u->troubled ? DIRTY_TROUBLE : DIRTY_READY);
    if (u->batch && !u->clearing && u->batch <= u->done) {
        u->drains_done = u->drains_begun;
        u->clearing = true;
        say(d);
    }
}

void objects_journal_turn(struct hearthd *d) {
    struct durable *u = d->durable;
    u->again = u->again && evtimer_pending(u->retry, NULL);
    if (u->clearing) {
        clear(d);
    }
    if (objects_journal_has_news(d)) {
        drain(d);
    }
}

bool objects_journal_has_news(const struct hearthd *d) {
    const struct durable *u = d->durable;
    return u && !u->batch && !u->again && (dirty_shards(&d->shm) || dirty_is_asked(&d->shm));
}

bool objects_journal_is_clean(const struct hearthd *d) {
    return !d->durable->batch && !dirty_shards(&d->shm);
}

/* ---- opening ---- */

void objects_journal_none(struct hearthd *d) {
    dirty_set_state(&d->shm, DIRTY_NO_DATABASE);
}

int objects_journal_open(struct hearthd *d) {
    struct durable *u = d->durable;
    u->drains_begun = dirty_go_on(&d->shm);
    u->drains_done = u->drains_begun ? u->drains_begun - 1 : 0;
    int r = d->found ? objects_reconcile(d) : objects_restore(d);
    if (r == 0) {
        dirty_set_state(&d->shm, DIRTY_READY);
        dirty_look(&d->shm);
    }
    return r;
}
