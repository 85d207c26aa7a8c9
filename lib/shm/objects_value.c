/* SPDX-License-Identifier: MIT */
/* The calls on values. How a call runs is in objects.c.
 *
 * Fails: as objects.h says. */
#include <errno.h>
#include <math.h>

#include "lib/base/clock.h"
#include "lib/base/num.h"
#include "lib/shm/objects.h"
#include "lib/shm/objects_run.h"

static int get_value(struct shm *s, void *arg) {
    struct ask *a = arg;
    char digits[24];
    struct task_bytes b;
    objects_begin(a);
    int r = value_get(s, &a->name, digits, &b);
    return r ? r : objects_keep(a, b.data, b.len);
}

int objects_value_get(struct objects *o, struct task_bytes name, struct task_bytes *ret) {
    struct ask a;
    objects_ask_only(&a, o, name);
    int r = objects_glance(&a, get_value);
    if (r == 0) {
        *ret = objects_item(&a);
    }
    return r;
}

static int set_value(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct key key;
    int r = a->replace ? get_value(s, a) : 0; /* the one before is wanted */
    if (r && r != -ENOENT) {
        return r;
    }
    r = a->when & ~(unsigned)OBJECTS_KEEP_TTL ? key_find_write(s, &a->name, &key) : 0;
    if (a->when & OBJECTS_ABSENT) {
        if (r != -ENOENT) {
            return r ? r : -EEXIST;
        }
    } else if (r) {
        return r;
    }
    r = value_set(s, &a->name, a->value.data, a->value.len, a->when & OBJECTS_KEEP_TTL);
    if (r == 0 && a->at) {
        r = key_find_write(s, &a->name, &key);
        r = r == 0 ? key_set_expire(s, &key, a->at) : r == -ENOENT ? 0 : r;
    }
    return r;
}

static struct ask ask_set(struct objects *o, struct task_bytes name, struct task_bytes value,
                          unsigned when, uint64_t ttl_ms) {
    struct ask a = objects_ask(o, name);
    a.value = value;
    a.when = when;
    a.at = ttl_ms ? clock_wall_ms() + ttl_ms : 0;
    return a;
}

int objects_value_set(struct objects *o, struct task_bytes name, struct task_bytes value,
                      unsigned when, uint64_t ttl_ms) {
    struct ask a = ask_set(o, name, value, when, ttl_ms);
    return objects_change(&a, false, set_value);
}

int objects_value_exchange(struct objects *o, struct task_bytes name, struct task_bytes value,
                           unsigned when, uint64_t ttl_ms, struct task_bytes *ret) {
    struct ask a = ask_set(o, name, value, when, ttl_ms);
    a.replace = true;
    int r = objects_change(&a, false, set_value);
    if (r == 0 || r == -EEXIST || r == -ENOENT) {
        *ret = a.found->n ? objects_item(&a) : (struct task_bytes){NULL, 0};
    }
    return r;
}

static int add_float(struct shm *s, void *arg) {
    struct ask *a = arg;
    char digits[24], text[NUM_FLOAT];
    struct task_bytes b;
    long double v = 0;
    int r = value_get(s, &a->name, digits, &b);
    r = r == 0 ? objects_float(b, &v) : r == -ENOENT ? 0 : r;
    v += a->by_float;
    if (r == 0 && !isfinite(v)) {
        r = -ERANGE;
    }
    a->ret_float = v;
    return r ? r : value_set(s, &a->name, text, num_put_float(text, v), true);
}

int objects_value_add_float(struct objects *o, struct task_bytes name, long double by,
                            long double *ret) {
    struct ask a = objects_ask(o, name);
    a.by_float = by;
    int r = objects_change(&a, false, add_float);
    if (r == 0 && ret) {
        *ret = a.ret_float;
    }
    return r;
}

static int add_value(struct shm *s, void *arg) {
    struct ask *a = arg;
    return value_add(s, &a->name, a->by, &a->ret);
}

int objects_value_add(struct objects *o, struct task_bytes name, int64_t by, int64_t *ret) {
    struct ask a;
    objects_ask_only(&a, o, name);
    a.by = by;
    int r = objects_change(&a, false, add_value);
    if (r == 0 && ret) {
        *ret = a.ret;
    }
    return r;
}

static int write_value(struct shm *s, void *arg) {
    struct ask *a = arg;
    uint64_t at = a->at, len = 0;
    char digits[24];
    struct task_bytes b = {0};
    int r = value_get(s, &a->name, digits, &b);
    if (r && r != -ENOENT) {
        return r;
    }
    if (a->by) { /* append */
        at = b.len;
    }
    if (a->value.len == 0) {
        a->ret = (int64_t)b.len;
        return 0;
    }
    r = value_write(s, &a->name, at, a->value.data, a->value.len, &len);
    a->ret = (int64_t)len;
    return r;
}

int64_t objects_value_append(struct objects *o, struct task_bytes name, struct task_bytes more) {
    struct ask a = objects_ask(o, name);
    a.value = more;
    a.by = 1;
    return objects_change_ret(&a, false, write_value);
}

int64_t objects_value_write(struct objects *o, struct task_bytes name, uint64_t at,
                            struct task_bytes data) {
    struct ask a = objects_ask(o, name);
    a.value = data;
    a.at = at;
    return objects_change_ret(&a, false, write_value);
}

static int cut_value(struct shm *s, void *arg) {
    struct ask *a = arg;
    char digits[24];
    struct task_bytes b = {"", 0};
    uint64_t at, n;
    objects_begin(a);
    int r = value_get(s, &a->name, digits, &b);
    if (r && r != -ENOENT) {
        return r;
    }
    objects_cut(a->from, a->by, b.len, &at, &n);
    return objects_keep(a, (const char *)b.data + at, n);
}

int objects_value_range(struct objects *o, struct task_bytes name, int64_t from, int64_t count,
                        struct task_bytes *ret) {
    struct ask a = objects_ask(o, name);
    a.from = from;
    a.by = count;
    int r = objects_look(&a, cut_value);
    if (r == 0) {
        *ret = objects_item(&a);
    }
    return r;
}
