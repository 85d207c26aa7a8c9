/* SPDX-License-Identifier: MIT */
/* Calls on lists that are about all of their elements: counting, turning round, sorting, and inserting beside one of them.
 *
 * A new order is made outside: the elements are copied, the list is emptied and filled again. Emptying cuts off whole leaves
 * and filling writes to new ones, so the undo log stays short however long the list is; it takes room for the list a second
 * time until the commit. The name keeps its expiry.
 *
 * Fails: as objects.h says. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/num.h"
#include "lib/shm/list.h"
#include "lib/shm/objects.h"
#include "lib/shm/objects_run.h"

static bool is_equal(struct task_bytes a, const void *data, size_t len) {
    return a.len == len && (len == 0 || memcmp(a.data, data, len) == 0);
}

/* ---- counting ---- */

static int meet(void *arg, uint64_t index, const void *data, size_t len) {
    struct ask *a = arg;
    (void)index;
    a->ret += is_equal(a->value, data, len);
    return 0;
}

static int count_equal(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    a->ret = 0;
    int r = list_open(s, &a->name, false, &l);
    r = r ? r : list_walk(s, &l, 0, false, meet, a);
    return r == -ENOENT ? 0 : r;
}

int64_t objects_list_count(struct objects *o, struct task_bytes name, struct task_bytes element) {
    struct ask a = objects_ask(o, name);
    a.value = element;
    int r = objects_look(&a, count_equal);
    return r < 0 ? r : a.ret;
}

/* ---- beside another ---- */

struct search {
    struct task_bytes wanted;
    uint64_t at;
};

static int look_for(void *arg, uint64_t index, const void *data, size_t len) {
    struct search *w = arg;
    w->at = index;
    return is_equal(w->wanted, data, len);
}

static int insert_beside(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    struct search w = {.wanted = a->field};
    int r = objects_open_list(s, &a->name, &l);
    r = r ? r : list_walk(s, &l, 0, false, look_for, &w);
    if (r <= 0) {
        return r ? r : -ENOENT;
    }
    r = list_insert(s, &l, w.at + a->replace, a->value.data, a->value.len);
    a->ret = (int64_t)list_count(&l);
    return r ? r : list_close(s, &l);
}

int64_t objects_list_insert_beside(struct objects *o, struct task_bytes name,
                                   struct task_bytes pivot, bool after, struct task_bytes element) {
    struct ask a = objects_ask(o, name);
    a.field = pivot;
    a.value = element;
    a.replace = after;
    return objects_change_ret(&a, false, insert_beside);
}

/* ---- another order ---- */

struct item {
    struct task_bytes bytes;
    double number;
};

static int keep_element(void *arg, uint64_t index, const void *data, size_t len) {
    (void)index;
    return objects_keep(arg, data, len);
}

/* The elements, copied; *ret_items is the caller's to free. */
static int take_all(struct shm *s, struct ask *a, struct list_object *l, struct item **ret_items,
                    size_t *ret_n) {
    objects_begin(a);
    int r = objects_open_list(s, &a->name, l);
    r = r ? r : list_walk(s, l, 0, false, keep_element, a);
    if (r) {
        return r;
    }
    const struct task_bytes *all = objects_items(a, ret_n);
    struct item *items = calloc(*ret_n + 1, sizeof(*items));
    if (!items) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < *ret_n; i++) {
        items[i].bytes = all[i];
    }
    *ret_items = items;
    return 0;
}

static int put_all(struct shm *s, struct ask *a, struct list_object *l, const struct item *items,
                   size_t n) {
    int r = list_remove(s, l, 0, n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = list_push(s, l, false, items[i].bytes.data, items[i].bytes.len);
    }
    a->ret = (int64_t)n;
    return r ? r : list_close(s, l);
}

static int reverse(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    struct item *items = NULL;
    size_t n = 0;
    int r = take_all(s, a, &l, &items, &n);
    for (size_t i = 0; r == 0 && i < n / 2; i++) {
        struct item other = items[i];
        items[i] = items[n - 1 - i];
        items[n - 1 - i] = other;
    }
    r = r ? r : put_all(s, a, &l, items, n);
    free(items);
    return r == -ENOENT ? 0 : r;
}

int64_t objects_list_reverse(struct objects *o, struct task_bytes name) {
    struct ask a = objects_ask(o, name);
    return objects_change_ret(&a, false, reverse);
}

static int compare(const void *pa, const void *pb, void *arg) {
    const struct item *a = pa, *b = pb;
    const struct ask *ask = arg;
    int r = (a->number > b->number) - (a->number < b->number);
    if (r == 0) {
        size_t len = a->bytes.len < b->bytes.len ? a->bytes.len : b->bytes.len;
        r = memcmp(a->bytes.data, b->bytes.data, len);
        r = r ? r : (a->bytes.len > b->bytes.len) - (a->bytes.len < b->bytes.len);
    }
    return ask->when & OBJECTS_DESCENDING ? -r : r;
}

/* As strtod() reads it, for that is what SORT does. A NUL follows what was kept. */
static bool number_of(const struct task_bytes *b, double *ret) {
    char *end;
    errno = 0;
    *ret = strtod_l(b->data, &end, num_locale());
    return end == (const char *)b->data + b->len && errno != ERANGE && !isnan(*ret);
}

static int sort(struct shm *s, void *arg) {
    struct ask *a = arg;
    struct list_object l;
    struct item *items = NULL;
    size_t n = 0;
    int r = take_all(s, a, &l, &items, &n);
    for (size_t i = 0; r == 0 && !(a->when & OBJECTS_ALPHA) && i < n; i++) {
        r = number_of(&items[i].bytes, &items[i].number) ? 0 : -EDOM;
    }
    if (r == 0) {
        qsort_r(items, n, sizeof(*items), compare, a);
        r = put_all(s, a, &l, items, n);
    }
    free(items);
    return r == -ENOENT ? 0 : r;
}

int64_t objects_list_sort(struct objects *o, struct task_bytes name, unsigned order) {
    struct ask a = objects_ask(o, name);
    a.when = order;
    return objects_change_ret(&a, false, sort);
}
