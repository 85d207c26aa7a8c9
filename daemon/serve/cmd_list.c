/* SPDX-License-Identifier: MIT */
/* Redis's list commands on lists in the segment; those that wait are in cmd_list_block.c. Each runs inside of an operation on
 * its keys' shards (object.h): the readers without a lock, so what they find may be changing under them. Then they say
 * -ESTALE, or something is said that will be cut off again, and they are run anew.
 *
 * Where several elements go or come at once they are one range of the list, so that whole leaves of it are cut off and the
 * undo log stays short.
 *
 * Fails: replies Redis's errors; negative errno for dispatch to say or to try again. */
#include "daemon/serve/cmd_list.h"

#include <errno.h>
#include <string.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/wait_keys.h"

/* Opens the list that argv[1] names. 1: there is none. */
static int open_list(struct conn *c, const struct resp_arg *argv, struct list_object *ret) {
    struct key_name name = object_name(c, &argv[1]);
    int r = list_open(object_shm(c), &name, false, ret);
    return r == -ENOENT ? 1 : r;
}

bool list_end(struct conn *c, const struct resp_arg *a, bool *ret_left) {
    bool left = resp_is(a, "LEFT");
    if (!left && !resp_is(a, "RIGHT")) {
        reply_syntax(c);
        return false;
    }
    *ret_left = left;
    return true;
}

/* ---- pushing ---- */

static int push(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool left, bool make) {
    struct shm *s = object_shm(c);
    struct key_name name = object_name(c, &argv[1]);
    struct list_object l;
    int r = list_open(s, &name, make, &l);
    if (r == -ENOENT) {
        reply_int(c, 0);
        return 0;
    }
    for (uint32_t i = 2; r == 0 && i < argc; i++) {
        r = list_push(s, &l, left, argv[i].data, argv[i].len);
    }
    if (r == 0) {
        reply_int(c, (int64_t)list_count(&l));
        wait_keys_pushed(c->serve, &name);
        r = list_close(s, &l);
    }
    return r;
}

int cmd_LPUSH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return push(c, argv, argc, true, true);
}

int cmd_RPUSH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return push(c, argv, argc, false, true);
}

int cmd_LPUSHX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return push(c, argv, argc, true, false);
}

int cmd_RPUSHX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return push(c, argv, argc, false, false);
}

/* ---- ranges ---- */

struct listing {
    struct conn *c;
    uint64_t left; /* elements that the reply's head still promises */
};

static int list_element(void *arg, uint64_t index, const void *data, size_t len) {
    struct listing *l = arg;
    (void)index;
    reply_bulk(l->c, data, len);
    return --l->left == 0;
}

/* n elements from `from` on. */
static int reply_range(struct conn *c, const struct list_object *l, uint64_t from, uint64_t n,
                       bool down) {
    struct listing w = {c, n};
    reply_array(c, (uint32_t)n);
    if (n == 0) {
        return 0;
    }
    int r = list_walk(object_shm(c), l, from, down, list_element, &w);
    return r < 0 ? r : (w.left ? -ESTALE : 0);
}

/* From and to as clients give them, negative ones from the end. Returns how many elements that is. */
static uint64_t clip(int64_t from, int64_t to, uint64_t count, uint64_t *ret_from) {
    int64_t n = (int64_t)count;
    from = from < 0 ? (from + n > 0 ? from + n : 0) : from;
    to = to < 0 ? to + n : to;
    to = to < n ? to : n - 1;
    if (from > to || from >= n) {
        return 0;
    }
    *ret_from = (uint64_t)from;
    return (uint64_t)(to - from) + 1;
}

int cmd_LRANGE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_object l;
    int64_t from, to;
    (void)argc;
    if (!args_i64(c, &argv[2], &from) || !args_i64(c, &argv[3], &to)) {
        return 0;
    }
    int r = open_list(c, argv, &l);
    if (r < 0) {
        return r;
    }
    uint64_t first = 0, n = r == 0 ? clip(from, to, list_count(&l), &first) : 0;
    return reply_range(c, &l, first, n, false);
}

int cmd_LTRIM(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_object l;
    int64_t from, to;
    (void)argc;
    if (!args_i64(c, &argv[2], &from) || !args_i64(c, &argv[3], &to)) {
        return 0;
    }
    int r = open_list(c, argv, &l);
    if (r == 0) {
        struct shm *s = object_shm(c);
        uint64_t count = list_count(&l), first = 0, n = clip(from, to, count, &first);
        if (first + n < count) {
            r = list_remove(s, &l, first + n, count - first - n);
        }
        if (r == 0 && first > 0) {
            r = list_remove(s, &l, 0, first);
        }
        r = r == 0 ? list_close(s, &l) : r;
    }
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

/* ---- popping ---- */

/* Removes n elements (there are as many) from an end and lists them. */
static int pop_range(struct conn *c, struct list_object *l, bool left, uint64_t n) {
    struct shm *s = object_shm(c);
    uint64_t count = list_count(l);
    int r = reply_range(c, l, left ? 0 : count - 1, n, !left);
    if (r == 0) {
        r = list_remove(s, l, left ? 0 : count - n, n);
    }
    r = r == -ESTALE ? -EBADMSG : r;
    return r < 0 ? r : list_close(s, l);
}

int list_pop_one(struct conn *to, const struct key_name *name, bool left, bool pair) {
    struct shm *s = object_shm(to);
    struct list_object l;
    struct task_bytes v;
    int r = list_open(s, name, false, &l);
    if (r == 0) {
        r = list_pop(s, &l, left, &v);
    }
    if (r) {
        return r == -ENOENT ? 1 : r;
    }
    if (pair) {
        reply_array(to, 2);
        reply_bulk(to, name->word.data, name->word.len);
    }
    reply_bulk(to, v.data, v.len);
    return list_close(s, &l);
}

int list_pop_many(struct conn *to, const struct key_name *name, bool left, uint64_t count) {
    struct list_object l;
    int r = list_open(object_shm(to), name, false, &l);
    if (r || list_count(&l) == 0) {
        return r == -ENOENT || r == 0 ? 1 : r;
    }
    reply_array(to, 2);
    reply_bulk(to, name->word.data, name->word.len);
    return pop_range(to, &l, left, count < list_count(&l) ? count : list_count(&l));
}

static int pop_counted(struct conn *c, const struct resp_arg *argv, bool left) {
    struct list_object l;
    int64_t count;
    if (!args_range(c, &argv[2], 0, INT64_MAX, "value is out of range, must be positive", &count)) {
        return 0;
    }
    int r = open_list(c, argv, &l);
    if (r == 1) {
        reply_null_array(c);
        return 0;
    }
    if (r == 0 && count == 0) {
        reply_array(c, 0);
        return 0;
    }
    uint64_t n = (uint64_t)count;
    return r < 0 ? r : pop_range(c, &l, left, n < list_count(&l) ? n : list_count(&l));
}

static int pop(struct conn *c, const struct resp_arg *argv, uint32_t argc, bool left) {
    if (argc > 3) {
        reply_wrong_args(c, left ? "LPOP" : "RPOP", NULL);
        return 0;
    }
    if (argc == 3) {
        return pop_counted(c, argv, left);
    }
    struct key_name name = object_name(c, &argv[1]);
    int r = list_pop_one(c, &name, left, false);
    if (r == 1) {
        reply_null(c);
    }
    return r < 0 ? r : 0;
}

int cmd_LPOP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return pop(c, argv, argc, true);
}

int cmd_RPOP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return pop(c, argv, argc, false);
}

bool list_mpop_words(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                     struct list_mpop *ret) {
    int64_t n, count = -1;
    bool left = false;
    if (!args_range(c, &argv[0], 1, INT64_MAX, "numkeys should be greater than 0", &n)) {
        return false;
    }
    if (n >= (int64_t)argc - 1) {
        reply_syntax(c);
        return false;
    }
    uint32_t at = (uint32_t)n + 1;
    if (!list_end(c, &argv[at], &left)) {
        return false;
    }
    for (at++; at < argc; at += 2) {
        if (count >= 0 || at + 1 == argc || !resp_is(&argv[at], "COUNT")) {
            reply_syntax(c);
            return false;
        }
        if (!args_range(c, &argv[at + 1], 1, INT64_MAX, "count should be greater than 0", &count)) {
            return false;
        }
    }
    *ret = (struct list_mpop){argv + 1, (uint32_t)n, left, count < 0 ? 1 : count};
    return true;
}

int cmd_LMPOP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_mpop m;
    if (!list_mpop_words(c, argv + 1, argc - 1, &m)) {
        return 0;
    }
    for (uint32_t i = 0; i < m.n; i++) {
        struct key_name name = object_name(c, &m.keys[i]);
        int r = list_pop_many(c, &name, m.left, (uint64_t)m.count);
        if (r <= 0) {
            return r;
        }
    }
    reply_null_array(c);
    return 0;
}

/* ---- moving ---- */

int list_move(struct conn *to, const struct key_name *from, const struct key_name *dest, bool left,
              bool to_left) {
    struct shm *s = object_shm(to);
    struct list_object a, b;
    struct task_bytes v;
    bool same = from->shard == dest->shard && from->word.len == dest->word.len &&
                memcmp(from->word.data, dest->word.data, from->word.len) == 0;
    int r = list_open(s, from, false, &a);
    r = r == 0 ? list_open(s, dest, !same, &b) : (r == -ENOENT ? 1 : r);
    /* making a key may have moved the other one */
    r = r == 0 && !same ? list_open(s, from, false, &a) : r;
    r = r == 0 ? list_pop(s, &a, left, &v) : r;
    if (r) {
        return r == -ENOENT ? -EBADMSG : r;
    }
    r = list_push(s, same ? &a : &b, to_left, v.data, v.len);
    if (r == 0) {
        reply_bulk(to, v.data, v.len);
        wait_keys_pushed(to->serve, dest);
        r = list_close(s, same ? &a : &b);
    }
    if (r == 0 && !same) {
        r = list_open(s, from, false, &a);
        r = r == 0 ? list_close(s, &a) : (r == -ENOENT ? -EBADMSG : r);
    }
    return r;
}

static int move(struct conn *c, const struct resp_arg *argv, bool left, bool to_left) {
    struct key_name from = object_name(c, &argv[1]), dest = object_name(c, &argv[2]);
    int r = list_move(c, &from, &dest, left, to_left);
    if (r == 1) {
        reply_null(c);
    }
    return r < 0 ? r : 0;
}

int cmd_LMOVE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    bool left, to_left;
    (void)argc;
    if (!list_end(c, &argv[3], &left) || !list_end(c, &argv[4], &to_left)) {
        return 0;
    }
    return move(c, argv, left, to_left);
}

int cmd_RPOPLPUSH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return move(c, argv, false, true);
}

/* ---- by index ---- */

int cmd_LLEN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_object l;
    (void)argc;
    int r = open_list(c, argv, &l);
    if (r >= 0) {
        reply_int(c, r == 0 ? (int64_t)list_count(&l) : 0);
    }
    return r < 0 ? r : 0;
}

/* Beyond the end if there is no such element. */
static uint64_t place(int64_t index, uint64_t count) {
    return index >= 0 ? (uint64_t)index
                      : ((uint64_t) - (index + 1) < count ? count + (uint64_t)index : UINT64_MAX);
}

int cmd_LINDEX(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_object l;
    struct task_bytes v;
    int64_t index;
    (void)argc;
    int r = open_list(c, argv, &l);
    if (r == 0) {
        if (!args_i64(c, &argv[2], &index)) {
            return 0;
        }
        r = list_at(object_shm(c), &l, place(index, list_count(&l)), &v);
    }
    if (r == 0) {
        reply_bulk(c, v.data, v.len);
    } else if (r == 1 || r == -ENOENT) {
        reply_null(c);
        r = 0;
    }
    return r;
}

int cmd_LSET(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct shm *s = object_shm(c);
    struct list_object l;
    int64_t index;
    (void)argc;
    int r = open_list(c, argv, &l);
    if (r == 1) {
        reply_error(c, "ERR no such key");
        return 0;
    }
    if (r < 0 || !args_i64(c, &argv[2], &index)) {
        return r;
    }
    uint64_t at = place(index, list_count(&l));
    if (at >= list_count(&l)) {
        reply_error(c, "ERR index out of range");
        return 0;
    }
    r = list_set(s, &l, at, argv[3].data, argv[3].len);
    r = r == 0 ? list_close(s, &l) : r;
    if (r == 0) {
        reply_ok(c);
    }
    return r;
}

/* ---- by content ---- */

struct search {
    const struct resp_arg *what;
    uint64_t index; /* of the one that was found, ... */
    uint64_t run;   /* ... and how many of them stand together */
    uint64_t max;   /* stop after so many */
};

static bool is_same(const struct resp_arg *a, const void *data, size_t len) {
    return a->len == len && memcmp(a->data, data, len) == 0;
}

/* Finds the next run of equal elements. */
static int find_run(void *arg, uint64_t index, const void *data, size_t len) {
    struct search *w = arg;
    if (is_same(w->what, data, len)) {
        w->index = index;
        return ++w->run == w->max;
    }
    return w->run > 0;
}

static int find_next(struct conn *c, const struct list_object *l, uint64_t from, bool down,
                     struct search *w) {
    w->run = 0;
    int r = list_walk(object_shm(c), l, from, down, find_run, w);
    if (r == -ESTALE) {
        return -EBADMSG;
    }
    return r < 0 ? r : 0;
}

int cmd_LINSERT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct shm *s = object_shm(c);
    struct list_object l;
    struct search w = {.what = &argv[3], .max = 1};
    bool after = resp_is(&argv[2], "AFTER");
    (void)argc;
    if (!after && !resp_is(&argv[2], "BEFORE")) {
        reply_syntax(c);
        return 0;
    }
    int r = open_list(c, argv, &l);
    if (r == 1) {
        reply_int(c, 0);
        return 0;
    }
    r = r == 0 ? find_next(c, &l, 0, false, &w) : r;
    if (r == 0 && w.run == 0) {
        reply_int(c, -1);
        return 0;
    }
    r = r == 0 ? list_insert(s, &l, w.index + after, argv[4].data, argv[4].len) : r;
    if (r == 0) {
        reply_int(c, (int64_t)list_count(&l));
        r = list_close(s, &l);
    }
    return r;
}

/* Removes up to `max` elements that are equal to `what`, from one end on; *ret: how many. */
static int remove_equal(struct conn *c, struct list_object *l, const struct resp_arg *what,
                        uint64_t max, bool down, uint64_t *ret) {
    struct search w = {.what = what};
    uint64_t gone = 0, at = down ? list_count(l) - 1 : 0;
    while (gone < max && list_count(l) > 0 && at < list_count(l)) {
        w.max = max - gone;
        int r = find_next(c, l, at, down, &w);
        if (r || w.run == 0) {
            *ret = gone;
            return r;
        }
        uint64_t first = down ? w.index : w.index - w.run + 1;
        r = list_remove(object_shm(c), l, first, w.run);
        if (r) {
            return r;
        }
        gone += w.run;
        at = down ? first - 1 : first; /* 0 - 1 is beyond every list */
    }
    *ret = gone;
    return 0;
}

int cmd_LREM(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_object l;
    int64_t count;
    uint64_t gone = 0;
    (void)argc;
    if (!args_i64(c, &argv[2], &count)) {
        return 0;
    }
    int r = open_list(c, argv, &l);
    if (r == 0) {
        uint64_t max = count < 0 ? -(uint64_t)count : count ? (uint64_t)count : UINT64_MAX;
        r = remove_equal(c, &l, &argv[3], max, count < 0, &gone);
        r = r == 0 && gone ? list_close(object_shm(c), &l) : r;
    }
    if (r >= 0) {
        reply_int(c, (int64_t)gone);
    }
    return r < 0 ? r : 0;
}

/* ---- LPOS ---- */

struct positions {
    struct conn *c;
    const struct resp_arg *what;
    uint64_t rank;   /* matches still to be passed over, this one included */
    uint64_t max;    /* matches to be told */
    uint64_t maxlen; /* elements to be looked at */
    uint64_t n;
    uint64_t first; /* the first match */
    struct buf found;
};

static int look_at(void *arg, uint64_t index, const void *data, size_t len) {
    struct positions *p = arg;
    if (is_same(p->what, data, len)) {
        if (p->rank > 1) {
            p->rank--;
        } else {
            p->first = p->n++ ? p->first : index;
            int r = resp_put_int(&p->found, (int64_t)index);
            if (r < 0 || p->n == p->max) {
                return r < 0 ? r : 1;
            }
        }
    }
    return --p->maxlen == 0;
}

struct lpos {
    int64_t rank, count, maxlen;
};

static bool lpos_words(struct conn *c, const struct resp_arg *argv, uint32_t argc,
                       struct lpos *ret) {
    struct lpos o = {.rank = 1, .count = -1};
    for (uint32_t i = 0; i < argc; i += 2) {
        const struct resp_arg *v = &argv[i + 1];
        bool more = i + 1 < argc, good;
        if (more && resp_is(&argv[i], "RANK")) {
            good = args_range(c, v, -INT64_MAX, INT64_MAX, NULL, &o.rank);
            if (good && o.rank == 0) {
                reply_error(c, "ERR RANK can't be zero: use 1 to start from the first match, 2 "
                               "from the second ... or use negative to start from the end of the "
                               "list");
                good = false;
            }
        } else if (more && resp_is(&argv[i], "COUNT")) {
            good = args_range(c, v, 0, INT64_MAX, "COUNT can't be negative", &o.count);
        } else if (more && resp_is(&argv[i], "MAXLEN")) {
            good = args_range(c, v, 0, INT64_MAX, "MAXLEN can't be negative", &o.maxlen);
        } else {
            reply_syntax(c);
            good = false;
        }
        if (!good) {
            return false;
        }
    }
    *ret = o;
    return true;
}

int cmd_LPOS(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct list_object l;
    struct lpos o;
    if (!lpos_words(c, argv + 3, argc - 3, &o)) {
        return 0;
    }
    bool down = o.rank < 0;
    struct positions p = {.c = c, .what = &argv[2]};
    p.rank = (uint64_t)(down ? -o.rank : o.rank);
    p.max = o.count < 0 ? 1 : (uint64_t)o.count;
    p.maxlen = (uint64_t)o.maxlen;
    int r = open_list(c, argv, &l);
    if (r == 0 && list_count(&l) > 0) {
        r = list_walk(object_shm(c), &l, down ? list_count(&l) - 1 : 0, down, look_at, &p);
    }
    if (r >= 0 && o.count >= 0) {
        reply_array(c, (uint32_t)p.n);
        REPLY(c, p.n ? buf_append(&c->out, buf_head(&p.found), buf_len(&p.found)) : 0);
    } else if (r >= 0 && p.n) {
        reply_int(c, (int64_t)p.first);
    } else if (r >= 0) {
        reply_null(c);
    }
    buf_deinit(&p.found);
    return r < 0 ? r : 0;
}
