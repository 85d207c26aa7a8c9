/* SPDX-License-Identifier: MIT */
/* Running calls on objects, and the calls on keys and values.
 *
 * A call is a struct ask and a function that op.h runs: under the lock for changes, without one for looking. Such a function
 * may run several times, so it begins by forgetting what it found before; what it finds is copied out at once, into one of
 * two areas of the handle that take turns.
 *
 * In a transaction the calls nest: one that fails is undone by itself, and the whole when the transaction's function says so.
 * The names are compared one by one, not by shard: whether a transaction lists all it touches must not depend on the hash.
 *
 * Fails: as objects.h says. */
#include "lib/shm/objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/glob.h"
#include "lib/base/num.h"
#include "lib/shm/alloc.h"
#include "lib/shm/objects_run.h"
#include "lib/shm/op.h"

void objects_init(struct objects *o, struct shm *s) {
    *o = (struct objects){.shm = s, .random = clock_now() ^ (uintptr_t)o};
}

void objects_deinit(struct objects *o) {
    for (int i = 0; i < 2; i++) {
        free(o->found[i].items);
        buf_deinit(&o->found[i].bytes);
    }
    free(o->locks);
    *o = (struct objects){0};
}

/* ---- what was found ---- */

void objects_mark(struct ask *a) {
    a->mark_n = a->found->n;
    a->mark_bytes = buf_len(&a->found->bytes);
}

void objects_back(struct ask *a) {
    a->found->n = a->mark_n;
    a->found->bytes.tail = a->found->bytes.head + a->mark_bytes;
}

int objects_keep_more(struct ask *a, const void *data, size_t len) {
    struct objects_found *f = a->found;
    if (data && len > ALLOC_MAX) {
        return -ESTALE;
    }
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 16;
        struct task_bytes *more = realloc(f->items, cap * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        f->items = more;
        f->cap = cap;
    }
    /* a NUL behind each, for those who print them; one byte at least, so that an empty one has a place */
    char *to = data ? buf_room(&f->bytes, len + 1) : NULL;
    if (data && !to) {
        return -ENOMEM;
    }
    f->items[f->n++] = (struct task_bytes){to, data ? len : 0};
    if (data) {
        memcpy(to, data, len);
        to[len] = '\0';
        buf_wrote(&f->bytes, len + 1);
    }
    return 0;
}

const struct task_bytes *objects_items(struct ask *a, size_t *ret_n) {
    struct objects_found *f = a->found;
    size_t at = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (f->items[i].data) { /* the buffer may have moved since */
            f->items[i].data = buf_head(&f->bytes) + at;
            at += f->items[i].len + 1;
        }
    }
    if (ret_n) {
        *ret_n = f->n;
    }
    return f->items;
}

/* ---- running ---- */

void objects_forget_items(struct objects_found *f) {
    free(f->items);
    f->items = NULL;
    f->cap = 0;
}

struct ask objects_ask(struct objects *o, struct task_bytes name) {
    return (struct ask){
        .o = o, .found = objects_turn(o), .name = key_name(o->shm, name.data, name.len)};
}

bool objects_same_name(const struct key_name *a, const struct key_name *b) {
    return a->word.hash == b->word.hash && a->word.len == b->word.len &&
           memcmp(a->word.data, b->word.data, a->word.len) == 0;
}

static bool is_listed(const struct objects *o, const struct key_name *name) {
    for (size_t i = 0; i < o->n_names; i++) {
        if (objects_same_name(&o->names[i], name)) {
            return true;
        }
    }
    return false;
}

/* May the call run now? */
static int may_run(const struct objects *o, const struct key_name *name) {
    return !o->names || is_listed(o, name) ? 0 : -EDEADLK;
}

static int ran(int r) {
    return r == -ESTALE ? -EBADMSG : r;
}

static int change_shards(struct objects *o, uint64_t shards, objects_fn *fn, void *arg) {
    return o->shm->mine ? ran(op_run(o->shm, shards, fn, arg)) : -EPERM;
}

int objects_change(struct ask *a, bool also, objects_fn *fn) {
    uint64_t shards = key_shard_bit(&a->name) | (also ? key_shard_bit(&a->to) : 0);
    int r = may_run(a->o, &a->name);
    if (r == 0 && also) {
        r = may_run(a->o, &a->to);
    }
    return r ? r : change_shards(a->o, shards, fn, a);
}

int64_t objects_change_ret(struct ask *a, bool also, objects_fn *fn) {
    int r = objects_change(a, also, fn);
    return r < 0 ? r : a->ret;
}

int objects_look(struct ask *a, objects_fn *fn) {
    int r = may_run(a->o, &a->name);
    return r ? r : ran(op_read(a->o->shm, a->name.shard, fn, a));
}

/* ---- transactions ---- */

struct transaction {
    struct objects *o;
    const struct key_name *names;
    size_t n;
    int (*fn)(struct objects *o, void *arg);
    void *arg;
};

static int run_transaction(struct shm *s, void *arg) {
    struct transaction *t = arg;
    (void)s;
    t->o->names = t->names;
    t->o->n_names = t->n;
    int r = t->fn(t->o, t->arg);
    t->o->names = NULL;
    return r;
}

int objects_transaction(struct objects *o, const struct task_bytes *names, size_t n,
                        int (*fn)(struct objects *o, void *arg), void *arg) {
    struct key_name keys[OBJECTS_NAMES];
    struct transaction t = {o, keys, n, fn, arg};
    uint64_t shards = 0;
    if (n == 0 || n > OBJECTS_NAMES) {
        return n ? -E2BIG : -EINVAL;
    }
    if (o->names) {
        return -EDEADLK;
    }
    for (size_t i = 0; i < n; i++) {
        keys[i] = key_name(o->shm, names[i].data, names[i].len);
        shards |= key_shard_bit(&keys[i]);
    }
    return change_shards(o, shards, run_transaction, &t);
}

/* ---- numbers ---- */

int objects_float(struct task_bytes b, long double *ret) {
    return num_float(b.data, b.len, ret) < 0 ? -EDOM : 0;
}

void objects_cut(int64_t from, int64_t count, uint64_t length, uint64_t *ret_from,
                 uint64_t *ret_n) {
    uint64_t at;
    if (from < 0) {
        uint64_t back = ~(uint64_t)from + 1;
        at = back < length ? length - back : 0;
        if (count > 0 && back > length) { /* the part of it that lies before the beginning */
            count = (uint64_t)count > back - length ? count - (int64_t)(back - length) : 0;
        }
    } else {
        at = (uint64_t)from < length ? (uint64_t)from : length;
    }
    *ret_from = at;
    *ret_n = count < 0 || (uint64_t)count > length - at ? length - at : (uint64_t)count;
}

/* ---- keys ---- */

static int find_type(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct key key;
    int r = key_find(s, &a->name, &key);
    return r == -ENOENT ? KEY_NONE : r ? r : (int)key_type(&key);
}

int objects_type(struct objects *o, struct task_bytes name) {
    struct ask a = objects_ask(o, name);
    return objects_look(&a, find_type);
}

int objects_exists(struct objects *o, struct task_bytes name) {
    int r = objects_type(o, name);
    return r > 0 ? 1 : r;
}

static int delete_keys(struct shm *s, void *arg) {
    struct ask *a = arg;
    a->ret = 0;
    for (size_t i = 0; i < a->n; i++) {
        struct key_name name = key_name(s, a->many[i].data, a->many[i].len);
        struct key key;
        int r = key_find_write(s, &name, &key);
        if (r == 0) {
            r = key_delete(s, &key);
            a->ret++;
        }
        if (r && r != -ENOENT) {
            return r;
        }
    }
    return 0;
}

int64_t objects_delete(struct objects *o, const struct task_bytes *names, size_t n) {
    struct ask a = {.o = o, .many = names, .n = n};
    uint64_t shards = 0;
    for (size_t i = 0; i < n; i++) {
        struct key_name name = key_name(o->shm, names[i].data, names[i].len);
        int r = may_run(o, &name);
        if (r) {
            return r;
        }
        shards |= key_shard_bit(&name);
    }
    int r = n ? change_shards(o, shards, delete_keys, &a) : 0;
    return r < 0 ? r : a.ret;
}

static int set_expire(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct key key;
    int r = key_find_write(s, &a->name, &key);
    if (r) {
        return r;
    }
    if (a->at == 1) {
        return key_delete(s, &key);
    }
    a->ret = key_expire(&key) != 0;
    return a->at == 0 && !a->ret ? 0 : key_set_expire(s, &key, a->at);
}

int objects_expire(struct objects *o, struct task_bytes name, int64_t ms) {
    struct ask a = objects_ask(o, name);
    uint64_t now = clock_wall_ms();
    a.at = ms <= 0 ? 1 : now + (uint64_t)ms;
    return objects_change(&a, false, set_expire);
}

int objects_persist(struct objects *o, struct task_bytes name) {
    struct ask a = objects_ask(o, name);
    int r = objects_change(&a, false, set_expire);
    return r < 0 ? r : (int)a.ret;
}

static int find_ttl(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct key key;
    int r = key_find(s, &a->name, &key);
    if (r == 0) {
        uint64_t at = key_expire(&key), now = clock_wall_ms();
        a->ret = !at ? -1 : at > now ? (int64_t)(at - now) : 0;
    }
    return r;
}

int64_t objects_ttl(struct objects *o, struct task_bytes name) {
    struct ask a = objects_ask(o, name);
    int r = objects_look(&a, find_ttl);
    return r < 0 ? r : a.ret;
}

static int rename_key(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct key from, to;
    int r = key_find_write(s, &a->name, &from);
    if (r) {
        return r;
    }
    if (objects_same_name(&a->name, &a->to)) {
        return a->replace ? 0 : -EEXIST;
    }
    r = key_find_write(s, &a->to, &to);
    if (r == 0) {
        r = a->replace ? key_delete(s, &to) : -EEXIST;
    }
    if (r && r != -ENOENT) {
        return r;
    }
    /* deleting may have moved it, when both are in one shard */
    r = key_find_write(s, &a->name, &from);
    return r ? r : key_rename(s, &from, &a->to);
}

int objects_rename(struct objects *o, struct task_bytes name, struct task_bytes to, bool replace) {
    struct ask a = objects_ask(o, name);
    a.to = key_name(o->shm, to.data, to.len);
    a.replace = replace;
    return objects_change(&a, true, rename_key);
}

static int copy_one(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct key from, to;
    int r = key_find_write(s, &a->name, &from);
    if (r) {
        return r;
    }
    if (objects_same_name(&a->name, &a->to)) {
        return -EEXIST;
    }
    r = key_find_write(s, &a->to, &to);
    if (r == 0) {
        r = a->replace ? key_delete(s, &to) : -EEXIST;
    }
    if (r && r != -ENOENT) {
        return r;
    }
    r = key_find_write(s, &a->name, &from); /* it may have moved */
    return r ? r : key_copy(s, &from, &a->to);
}

int objects_copy(struct objects *o, struct task_bytes name, struct task_bytes to, bool replace) {
    struct ask a = objects_ask(o, name);
    a.to = key_name(o->shm, to.data, to.len);
    a.replace = replace;
    return objects_change(&a, true, copy_one);
}

static int keep_name(void *arg, const void *name, size_t len, const struct shm_key *k) {
    struct ask *a = arg;
    (void)k;
    if (a->expected && !glob_match(a->expected->data, a->expected->len, name, len)) {
        return 0;
    }
    return objects_keep(arg, name, len);
}

static int scan_keys(struct shm *s, void *arg) {
    struct ask *a = arg;
    uint64_t at = *a->cursor;
    objects_back(a);
    int r = keys_scan(s, &at, keep_name, a);
    a->at = at;
    return r;
}

int objects_keys(struct objects *o, uint64_t *cursor, uint32_t count,
                 const struct task_bytes *pattern, const struct task_bytes **ret, size_t *ret_n) {
    struct ask a = objects_ask(o, (struct task_bytes){"", 0});
    uint64_t at = *cursor;
    if (o->names) {
        return -EDEADLK;
    }
    objects_begin(&a);
    a.cursor = &at;
    a.expected = pattern;
    for (uint64_t steps = 0; steps < (uint64_t)count * 10 + 64; steps++) {
        objects_mark(&a);
        int r = op_read(o->shm, keys_cursor_shard(at), scan_keys, &a);
        if (r < 0) {
            return ran(r);
        }
        at = a.at;
        if (at == 0 || a.found->n >= count) {
            break;
        }
    }
    *cursor = at;
    *ret = objects_items(&a, ret_n);
    return 0;
}
