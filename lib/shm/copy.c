/* SPDX-License-Identifier: MIT */
/* Copies of whole objects, inside of an operation that holds both shards. Source and copy may be in one shard, whose table of
 * keys the copy then grows while the source is read: that moves no object and no node, in which a value's bytes lie.
 *
 * Fails: -ENOMEM, -ENOBUFS, -EAGAIN, -EBADMSG; -ESTALE where reading said so. */
#include <errno.h>

#include "lib/shm/keys.h"
#include "lib/shm/list.h"

struct copy {
    struct shm *s;
    struct dict dict;
    struct list_object list;
};

static int copy_field(void *arg, struct shm_node *n) {
    struct copy *k = arg;
    size_t len, value_len;
    const void *field = hash_key(k->s, n, &len), *value = hash_value(k->s, n, &value_len);
    if (!field || !value) {
        return -EBADMSG;
    }
    int r = dict_put(k->s, &k->dict, field, len, value, value_len);
    return r < 0 ? r : 0;
}

static int copy_dict(struct shm *s, const struct key_name *from, const struct key_name *to) {
    struct copy k = {.s = s};
    struct dict source;
    uint64_t cursor = 0;
    int r = dict_open(s, from, false, &source);
    r = r ? r : dict_open(s, to, true, &k.dict);
    while (r == 0) {
        r = hash_scan(s, source.fields, &cursor, copy_field, &k);
        if (cursor == 0) {
            break;
        }
    }
    return r ? r : dict_close(s, &k.dict);
}

static int copy_element(void *arg, uint64_t index, const void *data, size_t len) {
    struct copy *k = arg;
    (void)index;
    return list_push(k->s, &k->list, false, data, len);
}

static int copy_list(struct shm *s, const struct key_name *from, const struct key_name *to) {
    struct copy k = {.s = s};
    struct list_object source;
    int r = list_open(s, from, false, &source);
    r = r ? r : list_open(s, to, true, &k.list);
    r = r ? r : list_walk(s, &source, 0, false, copy_element, &k);
    return r ? r : list_close(s, &k.list);
}

static int copy_value(struct shm *s, const struct key_name *from, const struct key_name *to) {
    char digits[24];
    struct task_bytes b;
    int r = value_get(s, from, digits, &b);
    return r ? r : value_set(s, to, b.data, b.len, false);
}

int key_copy(struct shm *s, const struct key *key, const struct key_name *to) {
    struct key_name from = key->name;
    uint64_t at_ms = key_expire(key);
    enum key_type type = key_type(key);
    struct key made;
    int r = type == KEY_DICT    ? copy_dict(s, &from, to)
            : type == KEY_LIST  ? copy_list(s, &from, to)
            : type == KEY_VALUE ? copy_value(s, &from, to)
                                : -EOPNOTSUPP;
    if (r == 0 && at_ms) {
        r = key_find(s, to, &made);
        r = r ? r : key_set_expire(s, &made, at_ms);
    }
    return r;
}
