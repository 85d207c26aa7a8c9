/* SPDX-License-Identifier: MIT */
/* The calls on lists. How a call runs is in objects.c.
 *
 * Waiting for an element is a sleep on the futex word of the list's shard. A sleeper raises the shard's flag before it looks
 * for the last time, under the lock; so whoever commits after that look sees the flag, takes it down and wakes everybody, and
 * those who find nothing raise it again. A sleeper's death leaves a flag and nothing more; the death of one that was to wake
 * is made good when its slot is buried (slot.c).
 *
 * Fails: as objects.h says. */
#include <errno.h>
#include <string.h>

#include "lib/shm/internal.h"
#include "lib/shm/list.h"
#include "lib/shm/manager.h"
#include "lib/shm/objects.h"
#include "lib/shm/objects_run.h"

enum { STRETCH = 256, STRETCH_BYTES = 1 << 16 };

int objects_open_list(struct shm *s, const struct key_name *name, struct list_object *ret) {
    int r = key_open(s, name, KEY_LIST, false, &ret->key);
    return r ? r : list_open(s, name, false, ret);
}

/* Index of an element that is there. -ENOENT. */
static int place(int64_t index, uint64_t length, uint64_t *ret) {
    if (index < 0) {
        uint64_t back = ~(uint64_t)index + 1;
        if (back > length) {
            return -ENOENT;
        }
        *ret = length - back;
        return 0;
    }
    *ret = (uint64_t)index;
    return (uint64_t)index < length ? 0 : -ENOENT;
}

static bool is_equal(struct task_bytes a, const void *data, size_t len) {
    return a.len == len && (len == 0 || memcmp(a.data, data, len) == 0);
}

/* ---- looking ---- */

static int count_elements(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    int r = list_open(s, &a->name, false, &l);
    a->ret = r ? 0 : (int64_t)list_count(&l);
    return r == -ENOENT ? 0 : r;
}

int64_t objects_list_length(struct objects *o, struct task_bytes name) {
    struct ask a = objects_ask(o, name);
    int r = objects_look(&a, count_elements);
    return r < 0 ? r : a.ret;
}

static int get_element(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    struct task_bytes b;
    uint64_t at;
    objects_begin(a);
    int r = list_open(s, &a->name, false, &l);
    r = r ? r : place(a->from, list_count(&l), &at);
    r = r ? r : list_at(s, &l, at, &b);
    return r ? r : objects_keep(a, b.data, b.len);
}

int objects_list_at(struct objects *o, struct task_bytes name, int64_t index,
                    struct task_bytes *ret) {
    struct ask a = objects_ask(o, name);
    a.from = index;
    int r = objects_look(&a, get_element);
    if (r == 0) {
        *ret = objects_item(&a);
    }
    return r;
}

/* What a walk does with the elements it meets. */
struct walk {
    struct ask *ask;
    uint64_t left;  /* how many more */
    uint64_t bytes; /* ends when so many are copied */
    uint64_t next;  /* index behind the last one met */
    int64_t found;
};

static int keep_element(void *arg, uint64_t index, const void *data, size_t len) {
    struct walk *w = arg;
    if (w->left == 0 || w->bytes == 0) {
        return 1;
    }
    w->left--;
    w->bytes -= len < w->bytes ? len : w->bytes;
    w->next = index + 1;
    return objects_keep(w->ask, data, len);
}

/* Copies `count` elements from a->from on; a->at tells how long the list is. */
static int get_range(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    uint64_t from, n;
    objects_begin(a);
    a->at = 0;
    int r = list_open(s, &a->name, false, &l);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    objects_cut(a->from, a->by, list_count(&l), &from, &n);
    struct walk w = {.ask = a, .left = n, .bytes = a->ttl_ms ? a->ttl_ms : UINT64_MAX};
    r = n ? list_walk(s, &l, from, false, keep_element, &w) : 0;
    a->at = w.next;
    return r < 0 ? r : 0;
}

int objects_list_range(struct objects *o, struct task_bytes name, int64_t from, int64_t count,
                       const struct task_bytes **ret, size_t *ret_n) {
    struct ask a = objects_ask(o, name);
    a.from = from;
    a.by = count;
    int r = objects_look(&a, get_range);
    if (r == 0) {
        *ret = objects_items(&a, ret_n);
    }
    return r;
}

int objects_list_walk(struct objects *o, struct task_bytes name, int64_t from,
                      int (*fn)(void *arg, uint64_t index, struct task_bytes element), void *arg) {
    uint64_t length = 0, at, n;
    int64_t r = from < 0 ? objects_list_length(o, name) : 0;
    if (r < 0) {
        return (int)r;
    }
    length = (uint64_t)r;
    if (from < 0) {
        objects_cut(from, -1, length, &at, &n);
        from = (int64_t)at;
    }
    for (;;) {
        struct ask a = objects_ask(o, name);
        a.from = from;
        a.by = STRETCH;
        a.ttl_ms = STRETCH_BYTES;
        int e = objects_look(&a, get_range);
        size_t found = 0;
        const struct task_bytes *items = e ? NULL : objects_items(&a, &found);
        if (e || found == 0) {
            return e;
        }
        for (size_t i = 0; i < found; i++) {
            e = fn(arg, (uint64_t)from + i, items[i]);
            if (e) {
                return e;
            }
        }
        from += (int64_t)found;
    }
}

static int meet_equal(void *arg, uint64_t index, const void *data, size_t len) {
    struct walk *w = arg;
    if (is_equal(w->ask->value, data, len)) {
        w->found = (int64_t)index;
        return 1;
    }
    return 0;
}

static int find_element(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    uint64_t from, n;
    int r = list_open(s, &a->name, false, &l);
    if (r) {
        return r;
    }
    objects_cut(a->from, -1, list_count(&l), &from, &n);
    struct walk w = {.ask = a, .found = -1};
    r = n ? list_walk(s, &l, from, false, meet_equal, &w) : 0;
    a->ret = w.found;
    return r < 0 ? r : r ? 0 : -ENOENT;
}

int64_t objects_list_index(struct objects *o, struct task_bytes name, struct task_bytes element,
                           int64_t from) {
    struct ask a = objects_ask(o, name);
    a.value = element;
    a.from = from;
    int r = objects_look(&a, find_element);
    return r < 0 ? r : a.ret;
}

/* ---- both ends ---- */

static int push_elements(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    int r = list_open(s, &a->name, true, &l);
    for (size_t i = 0; r == 0 && i < a->n; i++) {
        r = list_push(s, &l, a->end == OBJECTS_LEFT, a->many[i].data, a->many[i].len);
    }
    if (r == 0) {
        a->ret = (int64_t)list_count(&l);
        r = list_close(s, &l);
    }
    return r;
}

int64_t objects_list_push(struct objects *o, struct task_bytes name, enum objects_end end,
                          const struct task_bytes *elements, size_t n) {
    struct ask a = objects_ask(o, name);
    if (n == 0) {
        return objects_list_length(o, name);
    }
    a.many = elements;
    a.n = n;
    a.end = end;
    return objects_change_ret(&a, false, push_elements);
}

static int pop_element(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    struct task_bytes b;
    objects_begin(a);
    int r = objects_open_list(s, &a->name, &l);
    r = r ? r : list_pop(s, &l, a->end == OBJECTS_LEFT, &b);
    r = r ? r : objects_keep(a, b.data, b.len);
    return r ? r : list_close(s, &l);
}

int objects_list_pop(struct objects *o, struct task_bytes name, enum objects_end end,
                     struct task_bytes *ret) {
    struct ask a = objects_ask(o, name);
    a.end = end;
    int r = objects_change(&a, false, pop_element);
    if (r == 0 && ret) {
        *ret = objects_item(&a);
    }
    return r;
}

int objects_list_pop_wait(struct objects *o, struct task_bytes name, enum objects_end end,
                          int64_t ms, struct task_bytes *ret) {
    struct ask a = objects_ask(o, name);
    struct shm_shard *d = &o->shm->shards[a.name.shard];
    uint64_t until = clock_now() + (ms > 0 ? (uint64_t)ms * NS_PER_MS : 0);
    a.end = end;
    int r = objects_change(&a, false, pop_element);
    while (r == -ENOENT && ms != 0) {
        if (o->names) {
            return -EDEADLK;
        }
        uint32_t bell = atomic_load(&d->bell);
        atomic_store(&d->waiters, 1);
        r = objects_change(&a, false, pop_element);
        uint64_t now = clock_now();
        if (r != -ENOENT) {
            break;
        }
        if (manager_name_is_over(o->shm, name.data, name.len)) {
            return -EIDRM; /* it will never come */
        }
        if (ms > 0 && now >= until) {
            return -ETIMEDOUT;
        }
        futex_wait(&d->bell, bell, ms > 0 ? until - now : 3600 * NS_PER_SEC);
    }
    if (r == 0 && ret) {
        *ret = objects_item(&a);
    }
    return r == -ENOENT ? -ETIMEDOUT : r;
}

static int move_element(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object to;
    int r = objects_open_list(s, &a->name, &to);
    if (r == 0 && objects_same_name(&a->name, &a->to) && list_count(&to) == 1) {
        a->from = 0; /* it stays as it is; popping it would end the list, and its expiry */
        r = get_element(s, a);
        return r ? r : list_close(s, &to);
    }
    r = r ? r : pop_element(s, a);
    r = r ? r : list_open(s, &a->to, true, &to);
    if (r == 0) {
        struct task_bytes b = objects_item(a);
        r = list_push(s, &to, a->to_end == OBJECTS_LEFT, b.data, b.len);
    }
    return r ? r : list_close(s, &to);
}

int objects_list_move(struct objects *o, struct task_bytes from, enum objects_end end,
                      struct task_bytes to, enum objects_end to_end, struct task_bytes *ret) {
    struct ask a = objects_ask(o, from);
    a.to = key_name(o->shm, to.data, to.len);
    a.end = end;
    a.to_end = to_end;
    int r = objects_change(&a, true, move_element);
    if (r == 0 && ret) {
        *ret = objects_item(&a);
    }
    return r;
}

/* ---- anywhere ---- */

static int set_element(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    uint64_t at;
    int r = objects_open_list(s, &a->name, &l);
    r = r ? r : place(a->from, list_count(&l), &at);
    r = r ? r : list_set(s, &l, at, a->value.data, a->value.len);
    return r ? r : list_close(s, &l);
}

int objects_list_set(struct objects *o, struct task_bytes name, int64_t index,
                     struct task_bytes element) {
    struct ask a = objects_ask(o, name);
    a.from = index;
    a.value = element;
    return objects_change(&a, false, set_element);
}

static int insert_element(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    uint64_t at, n;
    int r = list_open(s, &a->name, true, &l);
    if (r == 0) {
        objects_cut(a->from, -1, list_count(&l), &at, &n);
        r = list_insert(s, &l, at, a->value.data, a->value.len);
    }
    if (r == 0) {
        a->ret = (int64_t)list_count(&l);
        r = list_close(s, &l);
    }
    return r;
}

int64_t objects_list_insert(struct objects *o, struct task_bytes name, int64_t index,
                            struct task_bytes element) {
    struct ask a = objects_ask(o, name);
    a.from = index;
    a.value = element;
    return objects_change_ret(&a, false, insert_element);
}

static int delete_range(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    uint64_t at, n;
    a->ret = 0;
    int r = objects_open_list(s, &a->name, &l);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    objects_cut(a->from, a->by, list_count(&l), &at, &n);
    if (n == 0) {
        return 0;
    }
    a->ret = (int64_t)n;
    r = list_remove(s, &l, at, n);
    return r ? r : list_close(s, &l);
}

int64_t objects_list_delete(struct objects *o, struct task_bytes name, int64_t from,
                            int64_t count) {
    struct ask a = objects_ask(o, name);
    a.from = from;
    a.by = count;
    return objects_change_ret(&a, false, delete_range);
}

static int trim_list(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    uint64_t at, n;
    a->ret = 0;
    int r = objects_open_list(s, &a->name, &l);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    uint64_t length = list_count(&l);
    objects_cut(a->from, a->by, length, &at, &n);
    a->ret = (int64_t)n;
    if (n == length) {
        return 0;
    }
    r = length > at + n ? list_remove(s, &l, at + n, length - at - n) : 0;
    r = r == 0 && at ? list_remove(s, &l, 0, at) : r;
    return r ? r : list_close(s, &l);
}

int64_t objects_list_trim(struct objects *o, struct task_bytes name, int64_t from, int64_t count) {
    struct ask a = objects_ask(o, name);
    a.from = from;
    a.by = count;
    return objects_change_ret(&a, false, trim_list);
}

static int remove_equal(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    a->ret = 0;
    int r = objects_open_list(s, &a->name, &l);
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    bool down = a->by < 0;
    uint64_t most = a->by ? (down ? ~(uint64_t)a->by + 1 : (uint64_t)a->by) : UINT64_MAX;
    uint64_t at = down ? list_count(&l) - 1 : 0;
    while ((uint64_t)a->ret < most && at < list_count(&l)) {
        struct walk w = {.ask = a, .found = -1};
        r = list_walk(s, &l, at, down, meet_equal, &w);
        if (r <= 0) {
            break;
        }
        at = (uint64_t)w.found;
        r = list_remove(s, &l, at, 1);
        if (r) {
            break;
        }
        a->ret++;
        at -= down; /* below the first one: beyond every count */
    }
    return r < 0 ? r : a->ret ? list_close(s, &l) : 0;
}

int64_t objects_list_remove(struct objects *o, struct task_bytes name, struct task_bytes element,
                            int64_t count) {
    struct ask a = objects_ask(o, name);
    a.value = element;
    a.by = count;
    return objects_change_ret(&a, false, remove_equal);
}
