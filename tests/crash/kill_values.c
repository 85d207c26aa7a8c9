/* SPDX-License-Identifier: MIT */
/* Changes of kill_objects to values, expiries, whole keys, several keys at once and what is shared by all.
 *
 * Each is planned on the model, with what it draws kept in the change, then made on the segment by the calls everybody uses;
 * where those have no call (flush, an absolute expiry) by the verbs the daemon uses.
 *
 * Fails: run() returns false when a call gives something else than the model says. */
#include <errno.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/op.h"
#include "tests/crash/kill_model.h"

#define RUN_ARGS                                                                                   \
    struct objects *o, const struct task_bytes *names, struct change *c,                           \
        const struct model *before, struct model *after

/* ---- the value: any bytes ---- */

static void put_content(struct model *m, uint32_t id) {
    char buf[CONTENT_MAX];
    struct task_bytes b = content_of(id, buf);
    memset(m->value, 0, sizeof(m->value));
    memcpy(m->value, b.data, b.len);
    m->value_len = b.len;
}

static struct task_bytes value_of(const struct model *m) {
    return (struct task_bytes){m->value, m->value_len};
}

static void plan_set(struct model *m, struct change *c) {
    put_content(m, c->id);
}

static bool run_set(RUN_ARGS) {
    if (c->id % 2) {
        struct task_bytes was;
        c->r =
            objects_value_exchange(o, names[NAME_VALUE], value_of(after), OBJECTS_ALWAYS, 0, &was);
        return c->r == 0 && (was.data ? is_bytes(was, before->value, before->value_len)
                                      : before->value_len == 0);
    }
    c->r = objects_value_set(o, names[NAME_VALUE], value_of(after), OBJECTS_ALWAYS, 0);
    return c->r == 0;
}

/* Only if absent, or only if present: the model knows whether it will be. */
static void plan_set_if(struct model *m, struct change *c) {
    c->a = change_random(c, 2) ? OBJECTS_ABSENT : OBJECTS_PRESENT;
    c->b = (c->a == OBJECTS_ABSENT) == (m->value_len == 0);
    if (c->b) {
        put_content(m, c->id);
    }
}

static bool run_set_if(RUN_ARGS) {
    char buf[CONTENT_MAX];
    (void)before;
    (void)after;
    c->r = objects_value_set(o, names[NAME_VALUE], content_of(c->id, buf),
                             (unsigned)c->a | OBJECTS_KEEP_TTL, 0);
    return c->r == (c->b ? 0 : c->a == OBJECTS_ABSENT ? -EEXIST : -ENOENT);
}

/* Writes up to 64 bytes somewhere, or at the end. */
static void plan_write(struct model *m, struct change *c) {
    c->a = change_random(c, 3) ? m->value_len : change_random(c, MODEL_VALUE - 64);
    c->n = 1 + change_random(c, sizeof(c->bytes));
    if (c->a + c->n > MODEL_VALUE) {
        c->a = 0;
    }
    for (uint64_t i = 0; i < c->n; i++) {
        c->bytes[i] = (unsigned char)(c->id + i);
    }
    c->b = c->a == m->value_len;
    memcpy(m->value + c->a, c->bytes, c->n);
    m->value_len = c->a + c->n > m->value_len ? c->a + c->n : m->value_len;
}

static bool run_write(RUN_ARGS) {
    struct task_bytes b = {c->bytes, c->n};
    (void)before;
    c->r = c->b ? objects_value_append(o, names[NAME_VALUE], b)
                : objects_value_write(o, names[NAME_VALUE], c->a, b);
    return c->r == (int64_t)after->value_len;
}

static void plan_delete(struct model *m, struct change *c) {
    (void)c;
    m->value_len = 0;
    memset(m->value, 0, sizeof(m->value));
}

struct taking {
    const struct task_bytes *names;
    const struct model *before, *after;
};

/* GETDEL, as a transaction of two calls. */
static int get_and_delete(struct objects *o, void *arg) {
    const struct taking *t = arg;
    struct task_bytes b = {0};
    int r = objects_value_get(o, t->names[NAME_VALUE], &b);
    if (r == 0 && !is_bytes(b, t->before->value, t->before->value_len)) {
        return -EBADE;
    }
    return r == 0 ? (int)objects_delete(o, &t->names[NAME_VALUE], 1) : r;
}

static bool run_getdel(RUN_ARGS) {
    struct taking t = {names, before, after};
    c->r = objects_transaction(o, &names[NAME_VALUE], 1, get_and_delete, &t);
    return c->r == (before->value_len ? 1 : -ENOENT);
}

/* Compare and set: only when it is what it should be, which it is. */
static int compare_and_set(struct objects *o, void *arg) {
    const struct taking *t = arg;
    struct task_bytes b = {"", 0};
    int r = objects_value_get(o, t->names[NAME_VALUE], &b);
    if ((r && r != -ENOENT) || !is_bytes(b, t->before->value, t->before->value_len)) {
        return -EBADE;
    }
    return objects_value_set(o, t->names[NAME_VALUE], value_of(t->after), OBJECTS_ALWAYS, 0);
}

static bool run_cas(RUN_ARGS) {
    struct taking t = {names, before, after};
    c->r = objects_transaction(o, &names[NAME_VALUE], 1, compare_and_set, &t);
    return c->r == 0;
}

static void plan_increment(struct model *m, struct change *c) {
    c->a = 1 + change_random(c, 1000);
    m->counter += (int64_t)c->a;
}

static bool run_increment(RUN_ARGS) {
    int64_t now = 0;
    (void)before;
    c->r = objects_value_add(o, names[NAME_COUNTER], (int64_t)c->a, &now);
    return c->r == 0 && now == after->counter;
}

/* ---- expiry: by an absolute time, so that what must be there is known to the millisecond ---- */

static void plan_brief(struct model *m, struct change *c) {
    c->a = clock_wall_ms() + (change_random(c, 4) ? 1 + change_random(c, 30) : 100000);
    m->brief = c->id;
    m->brief_until = c->a;
}

struct brief {
    struct task_bytes name, value;
    uint64_t until;
};

static int set_brief(struct shm *s, void *arg) {
    const struct brief *b = arg;
    struct key_name name = key_name(s, b->name.data, b->name.len);
    struct key key;
    int r = value_set(s, &name, b->value.data, b->value.len, false);
    r = r ? r : key_find_write(s, &name, &key);
    r = r ? r : key_set_expire(s, &key, b->until);
    return r == -ENOENT ? 0 : r; /* it has run out between the two */
}

static bool run_brief(RUN_ARGS) {
    char buf[CONTENT_MAX];
    struct brief b = {names[NAME_BRIEF], content_of(c->id, buf), c->a};
    (void)before;
    (void)after;
    c->r = op_run(o->shm, OP_ALL >> (SHM_SHARDS - MODEL_OWN_SHARDS), set_brief, &b);
    return c->r == 0;
}

static void plan_persist(struct model *m, struct change *c) {
    (void)c;
    m->brief_until = 0;
}

static bool run_persist(RUN_ARGS) {
    c->r = objects_persist(o, names[NAME_BRIEF]);
    if (c->r == -ENOENT) { /* it had run out, or was never set */
        bool due = before->brief_until && before->brief_until <= clock_wall_ms();
        after->brief_until = before->brief_until;
        return !before->brief || due;
    }
    return c->r == (before->brief_until != 0) && before->brief;
}

static void plan_expire_now(struct model *m, struct change *c) {
    (void)c;
    m->brief = m->brief_until = 0;
}

static bool run_expire_now(RUN_ARGS) {
    (void)after;
    c->r = objects_expire(o, names[NAME_BRIEF], 0);
    return c->r == 0 || (c->r == -ENOENT && (before->brief_until || !before->brief));
}

/* ---- several keys at once ---- */

static void plan_many(struct model *m, struct change *c) {
    m->many = c->id;
}

struct many {
    const struct task_bytes *names;
    struct task_bytes value;
};

static int set_each(struct objects *o, void *arg) {
    const struct many *m = arg;
    int r = 0;
    for (int i = 0; r == 0 && i < MODEL_MANY; i++) {
        r = objects_value_set(o, m->names[NAME_MANY + i], m->value, OBJECTS_ALWAYS, 0);
    }
    return r;
}

static bool run_many(RUN_ARGS) {
    char buf[CONTENT_MAX];
    struct many m = {names, content_of(c->id, buf)};
    (void)before;
    (void)after;
    c->r = objects_transaction(o, &names[NAME_MANY], MODEL_MANY, set_each, &m);
    return c->r == 0;
}

static void plan_many_deleted(struct model *m, struct change *c) {
    (void)c;
    m->many = 0;
}

static bool run_many_deleted(RUN_ARGS) {
    (void)after;
    c->r = objects_delete(o, &names[NAME_MANY], MODEL_MANY);
    return c->r == (before->many ? MODEL_MANY : 0);
}

/* A shard of its own, filled by a transaction over three types and flushed as FLUSHALL does it. */
static void plan_fill(struct model *m, struct change *c) {
    m->flush = c->id;
}

static int fill_shard(struct objects *o, void *arg) {
    const struct many *m = arg;
    const struct task_bytes *names = m->names;
    int r = objects_value_set(o, names[NAME_FLUSH_VALUE], m->value, OBJECTS_ALWAYS, 0);
    r = r ? r : objects_dict_set(o, names[NAME_FLUSH_DICT], names[NAME_FLUSH_DICT], m->value);
    int64_t n =
        r < 0 ? r : objects_list_push(o, names[NAME_FLUSH_LIST], OBJECTS_LEFT, &m->value, 1);
    return n < 0 ? (int)n : 0;
}

static bool run_fill(RUN_ARGS) {
    char buf[CONTENT_MAX];
    struct many m = {names, content_of(c->id, buf)};
    (void)before;
    (void)after;
    c->r = objects_transaction(o, &names[NAME_FLUSH_VALUE], 3, fill_shard, &m);
    return c->r == 0;
}

static void plan_flush(struct model *m, struct change *c) {
    (void)c;
    m->flush = 0;
}

static int flush_shard(struct shm *s, void *arg) {
    return keys_flush(s, *(const unsigned *)arg);
}

static bool run_flush(RUN_ARGS) {
    struct task_bytes name = names[NAME_FLUSH_VALUE];
    unsigned shard = key_name(o->shm, name.data, name.len).shard;
    (void)before;
    (void)after;
    c->r = op_run(o->shm, UINT64_C(1) << shard, flush_shard, &shard);
    return c->r == 0;
}

/* ---- what is shared ---- */

/* A field of everybody's dict and everybody's counter, together. */
static void plan_share(struct model *m, struct change *c) {
    (void)c;
    m->shared++;
}

struct share {
    const struct task_bytes *names;
    struct task_bytes field;
    int64_t mine;
};

static int add_share(struct objects *o, void *arg) {
    struct share *h = arg;
    int r = objects_value_add(o, h->names[NAME_TOTAL], 1, NULL);
    return r ? r : objects_dict_add(o, h->names[NAME_SHARES], h->field, 1, &h->mine);
}

static bool run_share(RUN_ARGS) {
    char buf[16];
    struct share h = {.names = names, .field = field_name((uint32_t)c->b, buf)};
    (void)before;
    c->r = objects_transaction(o, &names[NAME_TOTAL], 2, add_share, &h);
    return c->r == 0 && h.mine == after->shared;
}

/* Tokens go from `left` to `queue`, where others sleep for them. */
static void plan_token(struct model *m, struct change *c) {
    (void)m;
    c->a = change_random(c, 4);
}

static bool run_token(RUN_ARGS) {
    (void)before;
    (void)after;
    c->r = objects_list_move(o, names[NAME_LEFT], c->a & 1 ? OBJECTS_LEFT : OBJECTS_RIGHT,
                             names[NAME_QUEUE], c->a & 2 ? OBJECTS_LEFT : OBJECTS_RIGHT, NULL);
    return c->r == 0 || c->r == -ENOENT;
}

const struct change_kind value_kinds[] = {
    {"value set", plan_set, run_set},
    {"value set if", plan_set_if, run_set_if},
    {"value written", plan_write, run_write},
    {"value written", plan_write, run_write},
    {"value taken", plan_delete, run_getdel},
    {"value compared and set", plan_set, run_cas},
    {"value incremented", plan_increment, run_increment},
    {"expiry set", plan_brief, run_brief},
    {"expiry set", plan_brief, run_brief},
    {"expiry removed", plan_persist, run_persist},
    {"expired at once", plan_expire_now, run_expire_now},
    {"keys set together", plan_many, run_many},
    {"keys deleted together", plan_many_deleted, run_many_deleted},
    {"shard filled", plan_fill, run_fill},
    {"shard flushed", plan_flush, run_flush},
    {"share added", plan_share, run_share},
    {"share added", plan_share, run_share},
    {"token moved", plan_token, run_token},
    {"token moved", plan_token, run_token},
    {"token moved", plan_token, run_token},
};
const uint32_t n_value_kinds = ARRAY_SIZE(value_kinds);
