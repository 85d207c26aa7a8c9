/* SPDX-License-Identifier: MIT */
/* The calls on dicts. How a call runs is in objects.c.
 *
 * What a call gives is copied out before it is removed or replaced, since a change may overwrite it where it lies. A dict is
 * made by the first field that goes into it and goes with the last one.
 *
 * Fails: as objects.h says. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "lib/base/num.h"
#include "lib/shm/internal.h"
#include "lib/shm/objects.h"
#include "lib/shm/objects_run.h"

/* ---- looking ---- */

static int get_fields(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct dict d;
    objects_begin(a);
    int r = dict_open(s, &a->name, false, &d);
    if (r && r != -ENOENT) {
        return r;
    }
    bool there = r == 0;
    for (size_t i = 0; i < a->n; i++) {
        struct task_bytes b = {0};
        r = there ? dict_get(s, &d, a->many[i].data, a->many[i].len, &b) : -ENOENT;
        if (r && r != -ENOENT) {
            return r;
        }
        r = objects_keep(a, r ? NULL : b.data, b.len);
        if (r) {
            return r;
        }
    }
    return 0;
}

int objects_dict_get_many(struct objects *o, struct task_bytes name,
                          const struct task_bytes *fields, size_t n,
                          const struct task_bytes **ret) {
    struct ask a = objects_ask(o, name);
    a.many = fields;
    a.n = n;
    int r = objects_look(&a, get_fields);
    if (r == 0) {
        *ret = objects_items(&a, NULL);
    }
    return r;
}

static inline int find_field(struct shm *s, const struct ask *a, struct task_bytes *ret) {
    const struct shm_hash *fields;
    int r = dict_fields(s, &a->name, &fields);
    return r ? r : hash_get(s, fields, a->field.data, a->field.len, &ret->data, &ret->len);
}

static inline int get_field(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct task_bytes b;
    objects_begin(a);
    int r = find_field(s, a, &b);
    return r ? r : objects_keep(a, b.data, b.len);
}

int objects_dict_get(struct objects *o, struct task_bytes name, struct task_bytes field,
                     struct task_bytes *ret) {
    struct ask a;
    objects_ask_only(&a, o, name);
    a.field = field;
    int r = objects_glance(&a, get_field);
    if (r == 0) {
        *ret = objects_item(&a);
    }
    return r;
}

static int has_field(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct task_bytes b;
    int r = find_field(s, a, &b);
    return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

int objects_dict_contains(struct objects *o, struct task_bytes name, struct task_bytes field) {
    struct ask a;
    objects_ask_only(&a, o, name);
    a.field = field;
    return objects_glance(&a, has_field);
}

static int count_fields(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct dict d;
    int r = dict_open(s, &a->name, false, &d);
    a->ret = r ? 0 : (int64_t)dict_count(&d);
    return r == -ENOENT ? 0 : r;
}

int64_t objects_dict_length(struct objects *o, struct task_bytes name) {
    struct ask a = objects_ask(o, name);
    int r = objects_look(&a, count_fields);
    return r < 0 ? r : a.ret;
}

struct step {
    struct ask *ask;
    const struct shm *s;
};

static int keep_pair(void *arg, struct shm_node *n) {
    struct step *t = arg;
    size_t len, vlen;
    const void *field = hash_key(t->s, n, &len), *value = hash_value(t->s, n, &vlen);
    if (!field || !value) {
        return -ESTALE;
    }
    int r = objects_keep(t->ask, field, len);
    return r ? r : objects_keep(t->ask, value, vlen);
}

/* One step of a walk: the dict may have gone since the last one, which ends it. */
static int scan_fields(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct step t = {a, s};
    struct dict d;
    a->at = *a->cursor;
    objects_back(a);
    int r = dict_open(s, &a->name, false, &d);
    if (r == -ENOENT) {
        a->at = 0;
        return 0;
    }
    return r ? r : hash_scan(s, d.fields, &a->at, keep_pair, &t);
}

int objects_dict_scan(struct objects *o, struct task_bytes name, uint64_t *cursor, uint32_t count,
                      const struct task_bytes **ret, size_t *ret_n) {
    struct ask a = objects_ask(o, name);
    uint64_t at = *cursor;
    a.cursor = &at;
    objects_begin(&a);
    for (uint64_t steps = 0; steps < (uint64_t)count * 10 + 16; steps++) {
        objects_mark(&a);
        int r = objects_look(&a, scan_fields);
        if (r < 0) {
            return r;
        }
        at = a.at;
        if (at == 0 || a.found->n / 2 >= count) {
            break;
        }
    }
    *cursor = at;
    *ret = objects_items(&a, ret_n);
    return 0;
}

static int keep_parts(void *arg, struct shm_node *n) {
    struct step *t = arg;
    size_t len, vlen;
    const void *field = hash_key(t->s, n, &len), *value = hash_value(t->s, n, &vlen);
    int r = field && value ? 0 : -ESTALE;
    if (r == 0 && (t->ask->when & OBJECTS_FIELDS)) {
        r = objects_keep(t->ask, field, len);
    }
    if (r == 0 && (t->ask->when & OBJECTS_VALUES)) {
        r = objects_keep(t->ask, value, vlen);
    }
    if (t->ask->n-- == 0) {
        r = -ESTALE; /* more than there are: a walk through what is being changed may never end */
    }
    return r;
}

static int all_fields(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct step t = {a, s};
    struct dict d;
    uint64_t cursor = 0;
    objects_begin(a);
    int r = dict_open(s, &a->name, false, &d);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    a->n = dict_count(&d);
    do {
        r = hash_scan(s, d.fields, &cursor, keep_parts, &t);
    } while (r == 0 && cursor);
    return r == 0 && a->n ? -ESTALE : r;
}

int objects_dict_items(struct objects *o, struct task_bytes name, enum objects_part part,
                       const struct task_bytes **ret, size_t *ret_n) {
    struct ask a = objects_ask(o, name);
    a.when = part;
    int r = objects_look(&a, all_fields);
    if (r == 0) {
        *ret = objects_items(&a, ret_n);
    }
    return r;
}

/* ---- changing ---- */

static int set_field(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct dict d;
    int r = dict_open(s, &a->name, true, &d);
    if (r == 0) {
        r = dict_put(s, &d, a->field.data, a->field.len, a->value.data, a->value.len);
    }
    if (r >= 0) {
        a->ret = r;
        r = dict_close(s, &d);
    }
    return r;
}

int objects_dict_set(struct objects *o, struct task_bytes name, struct task_bytes field,
                     struct task_bytes value) {
    struct ask a;
    objects_ask_only(&a, o, name);
    a.field = field;
    a.value = value;
    int r = objects_change(&a, false, set_field);
    return r < 0 ? r : (int)a.ret;
}

static int set_fields(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct dict d;
    a->ret = 0;
    int r = dict_open(s, &a->name, true, &d);
    for (size_t i = 0; r >= 0 && i < a->n; i++) {
        const struct task_bytes *p = &a->many[i * 2];
        r = dict_put(s, &d, p[0].data, p[0].len, p[1].data, p[1].len);
        a->ret += r > 0;
    }
    return r < 0 ? r : dict_close(s, &d);
}

int64_t objects_dict_update(struct objects *o, struct task_bytes name,
                            const struct task_bytes *pairs, size_t n) {
    struct ask a = objects_ask(o, name);
    a.many = pairs;
    a.n = n;
    int r = n ? objects_change(&a, false, set_fields) : 0;
    return r < 0 ? r : a.ret;
}

static int default_field(struct shm *s, void *arg) {
    struct ask *a = arg;
    int r = get_field(s, a);
    if (r != -ENOENT) {
        return r;
    }
    r = set_field(s, a);
    if (r == 0) {
        r = objects_keep(a, a->value.data ? a->value.data : "", a->value.len);
    }
    return r ? r : 1;
}

int objects_dict_setdefault(struct objects *o, struct task_bytes name, struct task_bytes field,
                            struct task_bytes value, struct task_bytes *ret) {
    struct ask a = objects_ask(o, name);
    a.field = field;
    a.value = value;
    int r = objects_change(&a, false, default_field);
    if (r >= 0 && ret) {
        *ret = objects_item(&a);
    }
    return r;
}

static int delete_fields(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct dict d;
    a->ret = 0;
    int r = key_open(s, &a->name, KEY_DICT, false, &d.key);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    r = dict_open(s, &a->name, false, &d);
    for (size_t i = 0; r >= 0 && i < a->n; i++) {
        r = dict_remove(s, &d, a->many[i].data, a->many[i].len);
        a->ret += r > 0;
    }
    if (r >= 0 && a->ret) {
        r = dict_close(s, &d);
    }
    return r;
}

int64_t objects_dict_delete(struct objects *o, struct task_bytes name,
                            const struct task_bytes *fields, size_t n) {
    struct ask a = objects_ask(o, name);
    a.many = fields;
    a.n = n;
    return objects_change_ret(&a, false, delete_fields);
}

static int pop_field(struct shm *s, void *arg) {
    struct ask *a = arg;
    int r = get_field(s, a);
    a->many = &a->field;
    a->n = 1;
    return r ? r : delete_fields(s, a);
}

int objects_dict_pop(struct objects *o, struct task_bytes name, struct task_bytes field,
                     struct task_bytes *ret) {
    struct ask a = objects_ask(o, name);
    a.field = field;
    int r = objects_change(&a, false, pop_field);
    if (r == 0 && ret) {
        *ret = objects_item(&a);
    }
    return r;
}

static int pop_some(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct step t = {a, s};
    struct hash_ref ref;
    struct dict d;
    objects_begin(a);
    int r = dict_open(s, &a->name, false, &d);
    if (r) {
        return r;
    }
    const struct shm_node *n = hash_random(s, d.fields, a->at, &ref);
    if (!n) {
        return -ESTALE;
    }
    r = keep_pair(&t, ref.node);
    r = r ? r : dict_remove_found(s, &d, &ref);
    return r ? r : dict_close(s, &d);
}

int objects_dict_popitem(struct objects *o, struct task_bytes name, struct task_bytes *ret_field,
                         struct task_bytes *ret_value) {
    struct ask a = objects_ask(o, name);
    o->random = o->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    a.at = o->random;
    int r = objects_change(&a, false, pop_some);
    if (r == 0) {
        const struct task_bytes *items = objects_items(&a, NULL);
        if (ret_field) {
            *ret_field = items[0];
        }
        if (ret_value) {
            *ret_value = items[1];
        }
    }
    return r;
}

/* ---- counting ---- */

/* The integer a field is now; 0 when there is none. */
static int number_of(struct shm *s, struct ask *a, struct task_bytes field, int64_t *ret) {
    struct dict d;
    struct task_bytes b;
    int r = dict_open(s, &a->name, false, &d);
    r = r ? r : dict_get(s, &d, field.data, field.len, &b);
    if (r) {
        *ret = 0;
        return r == -ENOENT ? 0 : r;
    }
    return value_integer(b.data, b.len, ret);
}

static int add_to_field(struct shm *s, void *arg) {
    struct ask *a = arg;
    char digits[24];
    int64_t v;
    int r = number_of(s, a, a->field, &v);
    if (r == 0 && __builtin_add_overflow(v, a->by, &v)) {
        r = -ERANGE;
    }
    if (r) {
        return r;
    }
    a->value = (struct task_bytes){digits, num_put_i64(digits, v)};
    r = set_field(s, a);
    a->ret = v;
    return r;
}

int objects_dict_add(struct objects *o, struct task_bytes name, struct task_bytes field, int64_t by,
                     int64_t *ret) {
    struct ask a;
    objects_ask_only(&a, o, name);
    a.field = field;
    a.by = by;
    int r = objects_change(&a, false, add_to_field);
    if (r == 0 && ret) {
        *ret = a.ret;
    }
    return r;
}

static int add_to_fields(struct shm *s, void *arg) {
    struct ask *a = arg;
    int r = 0;
    for (size_t i = 0; r == 0 && i < a->n; i++) {
        a->field = a->many[i];
        a->by = a->counts[i];
        r = add_to_field(s, a);
    }
    return r;
}

int objects_dict_add_many(struct objects *o, struct task_bytes name,
                          const struct task_bytes *fields, const int64_t *by, size_t n) {
    struct ask a = objects_ask(o, name);
    a.many = fields;
    a.counts = by;
    a.n = n;
    return n ? objects_change(&a, false, add_to_fields) : 0;
}

static int add_float(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct dict d;
    struct task_bytes b;
    char text[NUM_FLOAT];
    long double v = 0;
    int r = dict_open(s, &a->name, false, &d);
    r = r ? r : dict_get(s, &d, a->field.data, a->field.len, &b);
    r = r == 0 ? objects_float(b, &v) : r == -ENOENT ? 0 : r;
    v += a->by_float;
    if (r == 0 && !isfinite(v)) {
        r = -ERANGE;
    }
    if (r) {
        return r;
    }
    a->value = (struct task_bytes){text, num_put_float(text, v)};
    r = set_field(s, a);
    a->ret_float = v;
    return r;
}

int objects_dict_add_float(struct objects *o, struct task_bytes name, struct task_bytes field,
                           long double by, long double *ret) {
    struct ask a = objects_ask(o, name);
    a.field = field;
    a.by_float = by;
    int r = objects_change(&a, false, add_float);
    if (r == 0 && ret) {
        *ret = a.ret_float;
    }
    return r;
}

/* ---- compare and set; clearing ---- */

static int swap_field(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct dict d;
    struct task_bytes b;
    int r = dict_open(s, &a->name, false, &d);
    r = r ? r : dict_get(s, &d, a->field.data, a->field.len, &b);
    if (r && r != -ENOENT) {
        return r;
    }
    bool there = r == 0, same;
    if (a->expected) {
        same = there && b.len == a->expected->len &&
               (b.len == 0 || memcmp(b.data, a->expected->data, b.len) == 0);
    } else {
        same = !there;
    }
    if (!same) {
        return 0;
    }
    if (a->next) {
        a->value = *a->next;
        r = set_field(s, a);
    } else {
        a->many = &a->field;
        a->n = 1;
        r = delete_fields(s, a);
    }
    return r < 0 ? r : 1;
}

int objects_dict_swap(struct objects *o, struct task_bytes name, struct task_bytes field,
                      const struct task_bytes *expected, const struct task_bytes *value) {
    struct ask a = objects_ask(o, name);
    a.field = field;
    a.expected = expected;
    a.next = value;
    return objects_change(&a, false, swap_field);
}

static int clear_dict(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct key key;
    int r = key_open(s, &a->name, KEY_DICT, false, &key);
    r = r ? r : key_delete(s, &key);
    return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

int objects_dict_clear(struct objects *o, struct task_bytes name) {
    struct ask a = objects_ask(o, name);
    return objects_change(&a, false, clear_dict);
}
