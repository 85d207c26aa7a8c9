/* SPDX-License-Identifier: MIT */
/* Every instruction of every verb that changes shared objects: values, dicts, lists, keys, expiry, renaming, transactions
 * over several of them, managers, and the tidying behind them (DESIGN section 4.1). After each death everything must read exactly
 * as before or exactly as after, every block must be accounted for, and after everything has been removed
 * nothing may be left. Then the same for the rescuer, from copies taken inside of transactions.
 * Fails: prints "not ok" and exits 1. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/shm/account.h"
#include "lib/shm/alloc.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/manager.h"
#include "lib/shm/objects.h"
#include "lib/shm/op.h"
#include "tests/crash/object_calls.h"
#include "tests/crash/step.h"

static char letters[9000];

/* ---- small words for the cases ---- */

static struct key_name name_of(const struct shm *s, const char *text) {
    return key_name(s, text, strlen(text));
}

struct put {
    const char *key, *field;
    const char *data;
    size_t len;
    uint64_t index, n;
};

static int in_set(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name k = name_of(s, p->key);
    return value_set(s, &k, p->data, p->len, false);
}
static int in_write(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name k = name_of(s, p->key);
    uint64_t len;
    return value_write(s, &k, p->index, p->data, p->len, &len);
}
static int in_add(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name k = name_of(s, p->key);
    int64_t v;
    return value_add(s, &k, 5, &v);
}
static int in_delete(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name k = name_of(s, p->key);
    struct key key;
    int r = key_find_write(s, &k, &key);
    return r ? r : key_delete(s, &key);
}
static int in_expire(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name k = name_of(s, p->key);
    struct key key;
    int r = key_find_write(s, &k, &key);
    return r ? r : key_set_expire(s, &key, p->n);
}
static int in_rename(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name k = name_of(s, p->key), to = name_of(s, p->field);
    struct key key;
    int r = key_find_write(s, &k, &key);
    return r ? r : key_rename(s, &key, &to);
}
static int in_flush_shard(struct shm *s, void *arg) {
    const struct put *p = arg;
    return keys_flush(s, name_of(s, p->key).shard);
}
static int in_sweep(struct shm *s, void *arg) {
    const struct put *p = arg;
    uint64_t cursor = 0;
    return keys_expire_some(s, name_of(s, p->key).shard, p->n, &cursor, 100);
}
static int in_flush_some(struct shm *s, void *arg) {
    const struct put *p = arg;
    return keys_flush_some(s, name_of(s, p->key).shard, 100);
}
static int in_dict_put(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name k = name_of(s, p->key);
    struct dict d;
    int r = dict_open(s, &k, true, &d);
    r = r ? r : dict_put(s, &d, p->field, strlen(p->field), p->data, p->len);
    return r < 0 ? r : dict_close(s, &d);
}
static int in_dict_many(struct shm *s, void *arg) {
    const struct put *p = arg;
    for (uint64_t i = 0; i < p->n; i++) {
        char field[16];
        snprintf(field, sizeof(field), "f%u", (unsigned)i);
        struct put one = {.key = p->key, .field = field, .data = p->data, .len = p->len};
        int r = in_dict_put(s, &one);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}
static int in_dict_remove(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name k = name_of(s, p->key);
    struct dict d;
    int r = dict_open(s, &k, true, &d);
    r = r ? r : dict_remove(s, &d, p->field, strlen(p->field));
    return r < 0 ? r : dict_close(s, &d);
}

enum list_verb { PUSH_LEFT, PUSH_RIGHT, POP_LEFT, POP_RIGHT, INSERT, SET, REMOVE };
struct list_op {
    const char *key;
    enum list_verb verb;
    uint64_t index, n;
    size_t len;
};

static int list_verb_run(struct shm *s, struct list_object *l, const struct list_op *o) {
    struct task_bytes b;
    switch (o->verb) {
    case PUSH_LEFT:
    case PUSH_RIGHT:
        for (uint64_t i = 0; i < o->n; i++) {
            int r = list_push(s, l, o->verb == PUSH_LEFT, letters + i, o->len);
            if (r) {
                return r;
            }
        }
        return 0;
    case POP_LEFT:
    case POP_RIGHT:
        return list_pop(s, l, o->verb == POP_LEFT, &b);
    case INSERT:
        return list_insert(s, l, o->index, letters + 7, o->len);
    case SET:
        return list_set(s, l, o->index, letters + 9, o->len);
    default:
        return list_remove(s, l, o->index, o->n);
    }
}

static int in_list(struct shm *s, void *arg) {
    const struct list_op *o = arg;
    struct key_name k = name_of(s, o->key);
    struct list_object l;
    int r = list_open(s, &k, true, &l);
    r = r ? r : list_verb_run(s, &l, o);
    return r < 0 ? r : list_close(s, &l);
}

static int in_move(struct shm *s, void *arg) {
    const struct put *p = arg;
    struct key_name from = name_of(s, p->key), to = name_of(s, p->field);
    struct list_object a, b;
    struct task_bytes bytes;
    int r = list_open(s, &from, true, &a);
    r = r ? r : list_pop(s, &a, true, &bytes);
    r = r ? r : list_open(s, &to, true, &b);
    r = r ? r : list_push(s, &b, false, bytes.data, bytes.len);
    r = r ? r : list_close(s, &b);
    return r ? r : list_close(s, &a);
}

/* Several objects at once, by nested operations. */
static int in_transaction(struct shm *s, void *arg) {
    (void)arg;
    struct put set = {.key = "v1", .data = letters, .len = 50};
    struct put put = {.key = "d1", .field = "new", .data = "x", .len = 1};
    struct put del = {.key = "gone"};
    struct list_op push = {"l1", PUSH_RIGHT, 0, 1, 30};
    int r = op_run(s, OP_ALL, in_set, &set);
    r = r ? r : op_run(s, OP_ALL, in_dict_put, &put);
    r = r ? r : op_run(s, OP_ALL, in_delete, &del);
    return r ? r : op_run(s, OP_ALL, in_list, &push);
}

/* A call of objects.h, put.n: enum object_call. */
static int in_call(struct shm *s, void *arg) {
    struct objects o;
    objects_init(&o, s);
    const struct put *p = arg;
    int64_t r = object_call(&o, (enum object_call)p->n, p->key, p->field, letters);
    objects_deinit(&o);
    return r < 0 ? (int)r : 0;
}

/* ---- managers: one is open, one has ended ---- */

static uint64_t open_id;
static char owned_value[32], owned_dict[32], owned_new[32], ended_value[32], ended_dict[32],
    ended_list[32];

static void name_in(uint64_t id, const char *rest, char ret[32]) {
    manager_prefix(id, ret);
    strcat(ret, rest);
}

static int in_sweep_all(struct shm *s, void *arg) {
    (void)arg;
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        uint64_t cursor = 0;
        do {
            int r = keys_expire_some(s, i, 1, &cursor, 16);
            if (r < 0) {
                return r;
            }
        } while (cursor);
    }
    return 0;
}
static int in_open_manager(struct shm *s, void *arg) {
    uint64_t id;
    (void)arg;
    return manager_open(s, &id);
}
static int in_end_manager(struct shm *s, void *arg) {
    (void)arg;
    return manager_end(s, open_id);
}

static void run(struct shm *s, int (*fn)(struct shm *, void *), void *arg) {
    int r = op_run(s, OP_ALL, fn, arg);
    assert(r >= 0);
}

/* ---- everything, as text ---- */

struct dump {
    struct shm *s;
    struct buf lines[64];
    unsigned n;
    struct buf *line;
};

static int dump_field(void *arg, struct shm_node *n) {
    struct dump *d = arg;
    size_t len, vlen;
    const char *field = hash_key(d->s, n, &len);
    const char *value = hash_value(d->s, n, &vlen);
    assert(field && value);
    uint64_t sum = vlen;
    for (size_t i = 0; i < vlen; i++) {
        sum = sum * 31 + (unsigned char)value[i];
    }
    /* the order of fields does not matter: sums add up */
    for (size_t i = 0; i < len; i++) {
        sum = sum * 31 + (unsigned char)field[i];
    }
    uint64_t *total = (void *)d->line->data;
    *total += sum * (sum | 1);
    return 0;
}

static int dump_element(void *arg, uint64_t index, const void *data, size_t len) {
    struct dump *d = arg;
    (void)index;
    buf_append(d->line, "|", 1);
    return buf_append(d->line, data, len);
}

static int dump_key(void *arg, const void *name, size_t len, const struct shm_key *k) {
    struct dump *d = arg;
    struct key_name n = key_name(d->s, name, len);
    struct key key;
    char digits[24];
    int r = key_find(d->s, &n, &key);
    assert(r == 0 && d->n < 64);
    struct buf *b = d->line = &d->lines[d->n++];
    uint64_t zero = 0;
    buf_append(b, &zero, sizeof(zero));
    buf_append(b, name, len);
    buf_printf(b, " %u %llu ", (unsigned)key_type(&key), (unsigned long long)get(&k->expire));
    if (key_type(&key) == KEY_VALUE) {
        struct task_bytes v = value_bytes(d->s, &key, digits);
        buf_append(b, v.data, v.len);
    } else if (key_type(&key) == KEY_DICT) {
        struct shm_object *o = key_object(d->s, &key);
        uint64_t cursor = 0;
        do {
            r = hash_scan(d->s, &o->dict, &cursor, dump_field, d);
            assert(r == 0);
        } while (cursor);
        buf_printf(b, "%llu fields", (unsigned long long)get(&o->dict.count));
    } else {
        struct list_object l;
        r = list_open(d->s, &n, false, &l);
        assert(r == 0);
        r = list_walk(d->s, &l, 0, false, dump_element, d);
        assert(r == 0);
        buf_printf(b, "|%llu elements", (unsigned long long)list_count(&l));
    }
    return 0;
}

static int by_bytes(const void *a, const void *b) {
    const struct buf *x = a, *y = b;
    size_t n = buf_len(x) < buf_len(y) ? buf_len(x) : buf_len(y);
    /* behind the sum, so that the order is by name */
    int r = n > 8 ? memcmp(buf_head(x) + 8, buf_head(y) + 8, n - 8) : 0;
    return r ? r : (buf_len(x) > buf_len(y)) - (buf_len(x) < buf_len(y));
}

static int in_dump(struct shm *s, void *arg) {
    struct dump *d = arg;
    uint64_t cursor = 0;
    d->s = s;
    do {
        int r = keys_scan(s, &cursor, dump_key, d);
        assert(r == 0);
    } while (cursor);
    return 0;
}

static void dump_all(struct shm *s, struct buf *ret) {
    static struct dump d;
    d = (struct dump){0};
    int r = op_run(s, OP_ALL, in_dump, &d);
    assert(r == 0);
    qsort(d.lines, d.n, sizeof(d.lines[0]), by_bytes);
    buf_deinit(ret);
    for (unsigned i = 0; i < d.n; i++) {
        buf_append(ret, buf_head(&d.lines[i]), buf_len(&d.lines[i]));
        buf_append(ret, "\n", 1);
        buf_deinit(&d.lines[i]);
    }
}

/* ---- the cases ---- */

struct object_case {
    const char *name;
    int (*op)(struct shm *s, void *arg);
    struct put put;
    struct list_op list;
};

static const struct object_case *current;
static struct buf before, after;

static void run_current(struct shm *s) {
    struct put put = current->put;
    struct list_op list = current->list;
    s->account = 1; /* what was there is others' */
    int r = op_run(s, OP_ALL, current->op, list.key ? (void *)&list : (void *)&put);
    assert(r >= 0);
}

static void fill_managers(struct shm *s) {
    uint64_t id;
    int r = manager_open(s, &open_id);
    r = r ? r : manager_open(s, &id);
    assert(r == 0);
    name_in(open_id, "value", owned_value);
    name_in(open_id, "dict", owned_dict);
    name_in(open_id, "new", owned_new);
    name_in(id, "value", ended_value);
    name_in(id, "dict", ended_dict);
    name_in(id, "list", ended_list);
    struct put value = {.key = owned_value, .data = letters, .len = 40};
    struct put dict = {.key = owned_dict, .data = letters, .len = 20, .n = 12};
    struct list_op list = {ended_list, PUSH_RIGHT, 0, 20, 25};
    run(s, in_set, &value);
    run(s, in_dict_many, &dict);
    value.key = ended_value;
    dict.key = ended_dict;
    run(s, in_set, &value);
    run(s, in_dict_many, &dict);
    run(s, in_list, &list);
    r = manager_end(s, id);
    assert(r == 0);
}

static void fill(struct shm *s) {
    struct put v1 = {.key = "v1", .data = letters, .len = 40};
    struct put big = {.key = "big", .data = letters, .len = 3000};
    struct put gone = {.key = "gone", .data = "12", .len = 2};
    struct put d1 = {.key = "d1", .data = letters, .len = 20, .n = 5};
    struct put d2 = {.key = "d2", .data = letters, .len = 20, .n = 40};
    struct put small = {.key = "d3", .field = "only", .data = "1", .len = 1};
    struct list_op l1 = {"l1", PUSH_RIGHT, 0, 12, 20};
    struct list_op l2 = {"l2", PUSH_RIGHT, 0, 300, 25};
    struct list_op l3 = {"l3", PUSH_LEFT, 0, 3, 2000};
    s->account = 2;
    run(s, in_set, &v1);
    s->account = 0;
    run(s, in_set, &big);
    run(s, in_set, &gone);
    run(s, in_dict_many, &d1);
    run(s, in_dict_many, &d2);
    run(s, in_dict_put, &small);
    run(s, in_list, &l1);
    s->account = 3;
    run(s, in_list, &l2);
    run(s, in_list, &l3);
    fill_managers(s);
    /* one that expires far away, and one that has */
    struct put timed = {.key = "timed", .data = letters, .len = 10, .n = UINT64_C(99999999999999)};
    struct put over = {.key = "over", .data = letters, .len = 10, .n = 6};
    run(s, in_set, &timed);
    run(s, in_expire, &timed);
    run(s, in_dict_many, &over);
    over.n = 1;
    run(s, in_expire, &over);
}

static void setup(struct shm *s) {
    fill(s);
    dump_all(s, &before);
    struct shm copy = step_foresee(s, STEP_SUPERVISOR);
    run_current(&copy);
    dump_all(&copy, &after);
    for (unsigned i = 0; i < SHM_SHARDS; i++) { /* somebody sleeps on each */
        put32(&s->shards[i].waiters, 1);
    }
}

static bool same(const struct buf *a, const struct buf *b) {
    return buf_len(a) == buf_len(b) && memcmp(buf_head(a), buf_head(b), buf_len(a)) == 0;
}

static const char *verify_all(struct shm *s, bool finished) {
    struct buf now = BUF_INIT;
    const char *bad = step_check(s, "check after recovery", NULL);
    if (bad) {
        return bad;
    }
    dump_all(s, &now);
    if (!same(&now, &after) && (finished || !same(&now, &before))) {
        bad = finished ? "the operation has no effect" : "neither as before nor as after";
    }
    buf_deinit(&now);
    if (finished && current && current->op == in_sweep_all && manager_over(s)) {
        bad = "keys of an ended manager are left";
    }
    return bad ? bad : step_remove_all(s);
}

/* Whoever sleeps has to look again: the dead one may have taken the flag down and not come to wake. */
static const char *recover_and_wake(struct shm *s, bool finished) {
    uint32_t bells[SHM_SHARDS];
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        bells[i] = get32(&s->shards[i].bell);
    }
    const char *bad = step_recover(s, STEP_VICTIM);
    for (unsigned i = 0; i < SHM_SHARDS && !bad && !finished; i++) {
        if (get32(&s->shards[i].bell) == bells[i]) {
            bad = "a sleeper is not woken";
        }
    }
    return bad;
}

static const char *verify(struct shm *s, bool finished) {
    const char *bad = recover_and_wake(s, finished);
    return bad ? bad : verify_all(s, finished);
}

static void op(struct shm *s) {
    run_current(s);
}

/* ---- tidying: what a deletion left behind ---- */
static void setup_tidy(struct shm *s) {
    struct put del = {.key = "d2"};
    fill(s);
    run(s, in_delete, &del);
    dump_all(s, &before);
    dump_all(s, &after);
}
static void setup_flushed(struct shm *s) {
    struct put flush = {.key = "d2"};
    fill(s);
    run(s, in_flush_shard, &flush);
    dump_all(s, &before);
    dump_all(s, &after);
}
static void op_tidy_shard(struct shm *s) {
    struct key_name k = name_of(s, "d2");
    int r = op_tidy(s, k.shard);
    assert(r >= 0);
    r = op_tidy(s, k.shard);
    assert(r >= 0);
}

/* ---- chunks that arenas keep at hand are given back ---- */
static void setup_trim(struct shm *s) {
    fill(s);
    dump_all(s, &before);
    dump_all(s, &after);
}
static void op_trim(struct shm *s) {
    int r = alloc_trim(s);
    assert(r > 0);
}

/* ---- a manager ends while a key of it is being made: gone at once, and whatever stays behind is swept ---- */
static const char *verify_ended(struct shm *s, bool finished) {
    struct manager_pass pass;
    (void)finished;
    int r = manager_end(s, open_id);
    const char *bad = r ? "the manager is not open" : step_recover(s, STEP_VICTIM);
    if (bad) {
        return bad;
    }
    manager_pass_begin(s, &pass);
    run(s, in_sweep_all, NULL);
    if (manager_pass_end(s, &pass) || manager_over(s)) {
        return "keys of an ended manager are left";
    }
    dump_all(s, &before);
    return verify_all(s, false);
}

/* ---- refused: the accounts have no room for more ---- */
static void setup_full(struct shm *s) {
    unsigned account;
    fill(s);
    for (uint32_t uid = 0; uid < 4; uid++) {
        struct account_view v;
        int r = account_open(s, uid, 1, 0, &account);
        assert(r == 0 && account == uid);
        bool is = account_view(s, account, &v);
        assert(is);
    }
    dump_all(s, &before);
    dump_all(s, &after);
}
static void op_refused(struct shm *s) {
    struct put large = {.key = "v1", .data = letters, .len = 900};
    struct put fields = {.key = "d1", .data = letters, .len = 30, .n = 9};
    struct list_op push = {"l2", PUSH_RIGHT, 0, 1, 8000};
    s->account = 1;
    int r = op_run(s, OP_ALL, in_set, &large);
    assert(r == -EDQUOT && s->over == 2);
    r = op_run(s, OP_ALL, in_dict_many, &fields);
    assert(r == -EDQUOT && s->over == 0);
    r = op_run(s, OP_ALL, in_list, &push);
    assert(r == -EDQUOT && s->over == 3);
}

static const struct object_case cases[] = {
    {"value: new", in_set, {.key = "new", .data = letters, .len = 100}, {0}},
    {"value: replaced in place", in_set, {.key = "v1", .data = letters + 3, .len = 30}, {0}},
    {"value: replaced by a larger", in_set, {.key = "v1", .data = letters, .len = 900}, {0}},
    {"value: replaces a dict", in_set, {.key = "d2", .data = "1", .len = 1}, {0}},
    {"value: appended", in_write, {.key = "v1", .data = letters, .len = 60, .index = 40}, {0}},
    {"value: bytes in the middle",
     in_write,
     {.key = "big", .data = "xyz", .len = 3, .index = 999},
     {0}},
    {"value: incremented", in_add, {.key = "gone"}, {0}},
    {"key: deleted", in_delete, {.key = "big"}, {0}},
    {"key: dict deleted", in_delete, {.key = "d2"}, {0}},
    {"key: list deleted", in_delete, {.key = "l2"}, {0}},
    {"key: expiry set", in_expire, {.key = "v1", .n = UINT64_C(99999999999999)}, {0}},
    {"key: renamed", in_rename, {.key = "d1", .field = "elsewhere"}, {0}},
    {"key: renamed, a value", in_rename, {.key = "v1", .field = "v2"}, {0}},
    {"dict: made", in_dict_put, {.key = "d9", .field = "f", .data = "v", .len = 1}, {0}},
    {"dict: field added, a bucket split",
     in_dict_put,
     {.key = "d1", .field = "f9", .data = letters, .len = 70},
     {0}},
    {"dict: field replaced in place",
     in_dict_put,
     {.key = "d1", .field = "f1", .data = letters + 1, .len = 20},
     {0}},
    {"dict: field replaced by a larger",
     in_dict_put,
     {.key = "d1", .field = "f1", .data = letters, .len = 500},
     {0}},
    {"dict: field removed", in_dict_remove, {.key = "d2", .field = "f7"}, {0}},
    {"dict: last field removed", in_dict_remove, {.key = "d3", .field = "only"}, {0}},
    {"dict: 60 fields at once",
     in_dict_many,
     {.key = "d1", .data = letters, .len = 9, .n = 60},
     {0}},
    {"list: pushed left", in_list, {0}, {"l1", PUSH_LEFT, 0, 1, 33}},
    {"list: pushed right", in_list, {0}, {"l2", PUSH_RIGHT, 0, 1, 33}},
    {"list: a large element pushed", in_list, {0}, {"l1", PUSH_RIGHT, 0, 1, 8000}},
    {"list: popped left", in_list, {0}, {"l2", POP_LEFT, 0, 1, 0}},
    {"list: popped right, a large one", in_list, {0}, {"l3", POP_RIGHT, 0, 1, 0}},
    {"list: inserted in the middle", in_list, {0}, {"l2", INSERT, 150, 1, 40}},
    {"list: element set", in_list, {0}, {"l2", SET, 77, 1, 400}},
    {"list: a range removed", in_list, {0}, {"l2", REMOVE, 30, 200, 0}},
    {"list: element moved to another", in_move, {.key = "l1", .field = "l2"}, {0}},
    {"transaction over a value, a dict, a key, a list", in_transaction, {0}, {0}},
    {"transaction larger than the slot's log",
     in_dict_many,
     {.key = "d8", .data = letters, .len = 30, .n = 120},
     {0}},
    {"copy: of a value", in_call, {.key = "v1", .field = "copy", .n = CALL_COPY}, {0}},
    {"copy: of a dict over a list", in_call, {.key = "d1", .field = "l1", .n = CALL_COPY}, {0}},
    {"copy: of a list over a value", in_call, {.key = "l1", .field = "big", .n = CALL_COPY}, {0}},
    {"value: exchanged", in_call, {.key = "v1", .n = CALL_EXCHANGE}, {0}},
    {"value: a fraction added", in_call, {.key = "gone", .n = CALL_ADD_FLOAT}, {0}},
    {"list: inserted beside an element", in_call, {.key = "l1", .n = CALL_BESIDE}, {0}},
    {"list: turned round", in_call, {.key = "l3", .n = CALL_REVERSE}, {0}},
    {"list: sorted", in_call, {.key = "l1", .n = CALL_SORT}, {0}},
    {"key: expired at once", in_call, {.key = "d2", .n = CALL_EXPIRE_NOW}, {0}},
    {"key: expires no longer", in_call, {.key = "timed", .n = CALL_PERSIST}, {0}},
    {"key: one that has expired is replaced", in_set, {.key = "over", .data = "1", .len = 1}, {0}},
    {"keys: those that have expired are swept", in_sweep, {.key = "over", .n = 2}, {0}},
    {"keys: a shard flushed bit by bit", in_flush_some, {.key = "d1"}, {0}},
    {"keys: several deleted", in_call, {.key = "v1", .field = "l2", .n = CALL_DELETE_SEVERAL}, {0}},
    {"keys: a dozen in one shard", in_call, {.key = "", .n = CALL_ONE_SHARD}, {0}},
    {"key: renamed over another",
     in_call,
     {.key = "d1", .field = "l1", .n = CALL_RENAME_OVER},
     {0}},
    {"key: renamed, one that expires", in_rename, {.key = "timed", .field = "later"}, {0}},
    {"value: set, its expiry kept", in_call, {.key = "timed", .n = CALL_SET_TTL}, {0}},
    {"value: written beyond its end", in_call, {.key = "big", .n = CALL_WRITE_BEYOND}, {0}},
    {"dict: set by default", in_call, {.key = "d1", .n = CALL_DEFAULT}, {0}},
    {"dict: field popped", in_call, {.key = "d1", .n = CALL_POP_FIELD}, {0}},
    {"dict: any field popped", in_call, {.key = "d2", .n = CALL_POP_ITEM}, {0}},
    {"dict: last field popped", in_call, {.key = "d3", .n = CALL_POP_ITEM}, {0}},
    {"dict: compared and set", in_call, {.key = "d1", .n = CALL_SWAP}, {0}},
    {"dict: compared and removed", in_call, {.key = "d1", .n = CALL_SWAP_AWAY}, {0}},
    {"dict: updated", in_call, {.key = "d1", .n = CALL_UPDATE}, {0}},
    {"dict: 30 fields deleted, buckets joined",
     in_call,
     {.key = "d2", .n = CALL_DELETE_FIELDS},
     {0}},
    {"dict: incremented", in_call, {.key = "d1", .n = CALL_ADD_FIELD}, {0}},
    {"dict: a fraction added", in_call, {.key = "d3", .n = CALL_ADD_FIELD_FLOAT}, {0}},
    {"dict: ten counts added", in_call, {.key = "d1", .n = CALL_ADD_FIELDS}, {0}},
    {"dict: cleared", in_call, {.key = "d2", .n = CALL_CLEAR}, {0}},
    {"list: 20 pushed", in_call, {.key = "l1", .n = CALL_PUSH_SEVERAL}, {0}},
    {"list: popped by one who would wait", in_call, {.key = "l2", .n = CALL_POP_WAIT}, {0}},
    {"list: element moved by a call", in_call, {.key = "l2", .field = "l1", .n = CALL_MOVE}, {0}},
    {"list: element moved in itself", in_call, {.key = "l1", .field = "l1", .n = CALL_MOVE}, {0}},
    {"list: trimmed", in_call, {.key = "l2", .n = CALL_TRIM}, {0}},
    {"list: equal elements removed", in_call, {.key = "l1", .n = CALL_REMOVE_EQUAL}, {0}},
    {"transaction by calls, one of which fails", in_call, {.key = "", .n = CALL_TRANSACTION}, {0}},
    {"keys: a shard flushed", in_flush_shard, {.key = "d2"}, {0}},
    {"manager: opened", in_open_manager, {0}, {0}},
    {"manager: ended", in_end_manager, {0}, {0}},
    {"manager: a value made", in_set, {.key = owned_new, .data = letters, .len = 100}, {0}},
    {"manager: a dict made",
     in_dict_put,
     {.key = owned_new, .field = "f", .data = "v", .len = 1},
     {0}},
    {"manager: a key removed", in_delete, {.key = owned_value}, {0}},
    {"manager: a dict given away", in_rename, {.key = owned_dict, .field = "free"}, {0}},
    {"manager: a dict taken in", in_rename, {.key = "d1", .field = owned_new}, {0}},
    {"manager: its shard flushed", in_flush_shard, {.key = owned_dict}, {0}},
    {"manager: keys of an ended one swept", in_sweep_all, {0}, {0}},
};

/* The stepper itself: stepping only what stores visits the states that stepping every instruction does. */
static void stores_are_enough(void) {
    static const struct object_case removed = {
        "list: a range removed", in_list, {0}, {"l2", REMOVE, 30, 200, 0}};
    void *image = step_new_segment();
    uint64_t sums[2] = {1, 1};
    current = &removed;
    struct shm s = step_handle(image, STEP_SUPERVISOR);
    setup(&s);
    for (int i = 0; i < 2; i++) {
        struct step_case c = {.name = i ? "the same, each instruction" : "each store",
                              .op = op,
                              .verify = verify,
                              .image = image,
                              .instructions = i == 1,
                              .ret_sum = &sums[i]};
        step_run(&c);
    }
    munmap(image, step_size);
    step_line("the same states either way", sums[0] == sums[1] ? NULL : "others");
}

/* Where entries lie depends on the segment's random seed: a table must be taken apart whole under any. */
static void under_many_seeds(void) {
    const char *bad = NULL;
    for (int i = 0; i < 300 && !bad; i++) {
        void *base = step_new_segment();
        struct shm s = step_handle(base, STEP_SUPERVISOR);
        struct put many = {.key = "d", .data = letters, .len = 20, .n = 40};
        run(&s, in_dict_many, &many);
        bad = step_remove_all(&s);
        munmap(base, step_size);
    }
    step_line("dicts taken apart under many seeds", bad);
}

static const struct object_case ended[] = {
    {"manager: ends while a value is made", in_set, {.key = owned_new, .data = "x", .len = 1}, {0}},
    {"manager: ends while a dict is taken in", in_rename, {.key = "d1", .field = owned_new}, {0}},
    {"manager: ends while a key is removed", in_delete, {.key = owned_dict}, {0}},
};

static const struct step_case others[] = {
    {.name = "tidying a dict away", .setup = setup_tidy, .op = op_tidy_shard, .verify = verify},
    {.name = "tidying a flushed shard away",
     .setup = setup_flushed,
     .op = op_tidy_shard,
     .verify = verify},
    {.name = "empty chunks given back", .setup = setup_trim, .op = op_trim, .verify = verify},
    {.name = "refused over the limits of accounts",
     .setup = setup_full,
     .op = op_refused,
     .verify = verify},
};

static void step_object(const struct object_case *o, bool rescue) {
    struct step_case c = {
        .name = o->name, .setup = setup, .op = op, .verify = verify, .rescues = rescue ? 6 : 0};
    current = o;
    uint32_t n = step_run(&c);
    if (rescue) {
        step_line("somebody dies in the rescue", n ? NULL : "in no copy");
    }
}

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof(letters); i++) {
        letters[i] = (char)('a' + i % 26);
    }
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (argc < 2 || strstr(cases[i].name, argv[1])) {
            step_object(&cases[i], i == 2 || i == 14 || i == 25 || i == 29);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(ended); i++) {
        current = &ended[i];
        step_run(&(struct step_case){
            .name = ended[i].name, .setup = setup, .op = op, .verify = verify_ended});
    }
    current = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        step_run(&others[i]);
    }
    stores_are_enough();
    under_many_seeds();
    buf_deinit(&before);
    buf_deinit(&after);
    return step_end();
}
