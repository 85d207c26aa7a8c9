/* SPDX-License-Identifier: MIT */
/* The model of kill_objects: names, contents, reading the keys back and comparing.
 *
 * Every content begins with its number and the rest follows from it, so the model keeps numbers and a damaged byte still
 * shows. Reading back goes through the same calls that everybody uses, and meets each field and element.
 *
 * Fails: says in words what is wrong. */
#include "tests/crash/kill_model.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/num.h"
#include "lib/shm/dirty.h"
#include "lib/shm/keys.h"
#include "lib/shm/op.h"

static const char *const stems[MODEL_NAMES] = {
    [NAME_VALUE] = "value",
    [NAME_COUNTER] = "counter",
    [NAME_DICT] = "dict",
    [NAME_DICT_MOVED] = "moved",
    [NAME_COPY] = "copy",
    [NAME_LIST] = "list",
    [NAME_LIST_OTHER] = "other",
    [NAME_BRIEF] = "brief",
    [NAME_FLUSH_VALUE] = "flush",
    [NAME_FLUSH_DICT] = "flush dict",
    [NAME_FLUSH_LIST] = "flush list",
    [NAME_TOTAL] = "total",
    [NAME_SHARES] = "shares",
    [NAME_LEFT] = "left",
    [NAME_QUEUE] = "queue",
};

void model_names(const struct shm *s, int p, char bytes[MODEL_NAMES][MODEL_NAME],
                 struct task_bytes names[MODEL_NAMES]) {
    for (int i = 0; i < MODEL_NAMES; i++) {
        const char *stem = stems[i] ? stems[i] : "many";
        bool flushed = i >= NAME_FLUSH_VALUE && i <= NAME_FLUSH_LIST;
        int owner = i < NAME_TOTAL ? p : 9;
        for (int k = 0;; k++) {
            int n = snprintf(bytes[i], MODEL_NAME, "%s%s:%d:%d.%d", owner % 2 ? DURABLE_PREFIX : "",
                             stem, owner, i, k);
            unsigned shard = key_name(s, bytes[i], (size_t)n).shard;
            if (flushed ? shard == MODEL_OWN_SHARDS + (unsigned)p : shard < MODEL_OWN_SHARDS) {
                names[i] = (struct task_bytes){bytes[i], (size_t)n};
                break;
            }
        }
    }
}

uint64_t change_random(struct change *c, uint64_t below) {
    c->random = c->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (c->random >> 33) % below;
}

struct task_bytes content_of(uint32_t id, char buf[CONTENT_MAX]) {
    size_t len = (size_t)snprintf(buf, 16, "%u ", (unsigned)id);
    size_t want = id % 97 == 0 ? CONTENT_MAX : id % 13 == 0 ? 300 : 12 + id % 40;
    while (len < want) {
        buf[len] = (char)('a' + (id + len) % 26);
        len++;
    }
    return (struct task_bytes){buf, len};
}

bool is_bytes(struct task_bytes b, const void *data, size_t len) {
    return b.len == len && memcmp(b.data, data, len) == 0;
}

uint32_t content_id(struct task_bytes b) {
    char buf[CONTENT_MAX];
    const char *end = memchr(b.data, ' ', b.len);
    uint64_t id;
    if (!end || num_u64(b.data, (size_t)(end - (const char *)b.data), &id) || id > UINT32_MAX) {
        return 0;
    }
    struct task_bytes want = content_of((uint32_t)id, buf);
    return is_bytes(b, want.data, want.len) ? (uint32_t)id : 0;
}

struct task_bytes field_name(uint32_t i, char buf[16]) {
    bool sum = i >= MODEL_FIELDS;
    int n = snprintf(buf, 16, sum ? "sum %u" : "field %u", (unsigned)(sum ? i - MODEL_FIELDS : i));
    return (struct task_bytes){buf, (size_t)n};
}

int field_index(struct task_bytes b) {
    const char *text = b.data;
    bool sum = b.len > 4 && memcmp(text, "sum ", 4) == 0;
    size_t head = sum ? 4 : 6;
    uint64_t i;
    if (b.len <= head || num_u64(text + head, b.len - head, &i) ||
        i >= (sum ? MODEL_SUMS : MODEL_FIELDS)) {
        return -1;
    }
    return (int)(sum ? MODEL_FIELDS + i : i);
}

/* ---- reading back ---- */

/* The pairs of a scan may come twice, with the same content. */
static const char *see_pair(struct model_dict *d, const struct task_bytes pair[2]) {
    int i = field_index(pair[0]);
    if (i < 0) {
        return "a field that nobody set";
    }
    if (i >= MODEL_FIELDS) {
        return num_i64(pair[1].data, pair[1].len, &d->sums[i - MODEL_FIELDS])
                   ? "a sum that is no number"
                   : NULL;
    }
    d->fields[i] = content_id(pair[1]);
    return d->fields[i] ? NULL : "a damaged field";
}

static const char *observe_dict(struct objects *o, struct task_bytes name, struct model_dict *d) {
    uint64_t cursor = 0;
    int64_t count = 0;
    const char *bad = NULL;
    do {
        const struct task_bytes *pairs;
        size_t n;
        if (objects_dict_scan(o, name, &cursor, 100, &pairs, &n)) {
            return "a dict that cannot be read";
        }
        for (size_t i = 0; i < n && !bad; i += 2) {
            bad = see_pair(d, &pairs[i]);
        }
    } while (cursor && !bad);
    for (int i = 0; i < MODEL_FIELDS; i++) {
        char buf[16];
        count += d->fields[i] != 0;
        /* what the walk met, a look-up must find, and nothing else */
        int there = objects_dict_contains(o, name, field_name((uint32_t)i, buf));
        if (!bad && there != (d->fields[i] != 0)) {
            bad = "walk and look-up of a dict disagree";
        }
    }
    for (int i = 0; i < MODEL_SUMS; i++) {
        count += d->sums[i] != 0;
    }
    return bad || objects_dict_length(o, name) == count ? bad : "a dict whose length is wrong";
}

static const char *observe_list(struct objects *o, struct task_bytes name, struct model_list *l) {
    const struct task_bytes *items;
    size_t n;
    if (objects_list_range(o, name, 0, -1, &items, &n) || n > MODEL_ELEMENTS) {
        return "a list that cannot be read";
    }
    l->n = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        l->at[i] = content_id(items[i]);
        if (!l->at[i]) {
            return "a damaged element";
        }
    }
    return objects_list_length(o, name) == (int64_t)n ? NULL : "a list whose length is wrong";
}

/* A key whose content is a number's; 0: absent. */
static const char *observe_content(struct objects *o, struct task_bytes name, uint64_t *ret) {
    struct task_bytes b;
    int r = objects_value_get(o, name, &b);
    *ret = r ? 0 : content_id(b);
    return r == -ENOENT || *ret ? NULL : "a damaged value";
}

struct until {
    struct key_name name;
    uint64_t at;
};

static int find_until(struct shm *s, void *arg) {
    struct until *u = arg;
    struct key key;
    int r = key_find(s, &u->name, &key);
    u->at = r ? 0 : key_expire(&key);
    return r;
}

/* It may run out while one looks: then it was absent. */
static const char *observe_brief(struct objects *o, struct task_bytes name, struct model *m) {
    struct until u = {.name = key_name(o->shm, name.data, name.len)};
    const char *bad = observe_content(o, name, &m->brief);
    int r = op_read(o->shm, u.name.shard, find_until, &u);
    m->brief = r == -ENOENT ? 0 : m->brief;
    m->brief_until = u.at;
    return bad || r == 0 || r == -ENOENT ? bad : "an expiry that cannot be read";
}

static const char *observe_group(struct objects *o, const struct task_bytes *names, uint64_t n,
                                 uint64_t *ret) {
    const char *bad = NULL;
    for (uint64_t i = 0; i < n && !bad; i++) {
        uint64_t one = 0;
        bad = observe_content(o, names[i], &one);
        if (i && one != *ret) {
            return "keys that are set and deleted together differ";
        }
        *ret = one;
    }
    return bad;
}

/* The value, the dict of one field and the list of one element in the shard that is flushed. */
static const char *observe_flush(struct objects *o, const struct task_bytes *names, uint64_t *ret) {
    struct task_bytes b;
    const char *bad = observe_content(o, names[NAME_FLUSH_VALUE], ret);
    int r = objects_dict_get(o, names[NAME_FLUSH_DICT], names[NAME_FLUSH_DICT], &b);
    uint64_t field = r ? 0 : content_id(b);
    r = objects_list_at(o, names[NAME_FLUSH_LIST], 0, &b);
    uint64_t element = r ? 0 : content_id(b);
    return bad || (field == *ret && element == *ret) ? bad : "a shard that is half flushed";
}

static const char *observe_numbers(struct objects *o, const struct task_bytes *names, int p,
                                   struct model *m) {
    char field[16];
    struct task_bytes b;
    int r = objects_value_get(o, names[NAME_COUNTER], &b);
    if (r != -ENOENT && (r || num_i64(b.data, b.len, &m->counter))) {
        return "a damaged counter";
    }
    r = objects_dict_get(o, names[NAME_SHARES], field_name((uint32_t)p, field), &b);
    if (r != -ENOENT && (r || num_i64(b.data, b.len, &m->shared))) {
        return "a damaged share";
    }
    r = objects_value_get(o, names[NAME_VALUE], &b);
    if (r == 0 && b.len <= MODEL_VALUE) {
        m->value_len = b.len;
        memcpy(m->value, b.data, b.len);
    }
    return r == 0 || r == -ENOENT ? NULL : "a value that cannot be read";
}

const char *model_observe(struct objects *o, const struct task_bytes *names, int p,
                          struct model *ret) {
    memset(ret, 0, sizeof(*ret));
    int here = objects_exists(o, names[NAME_DICT]),
        there = objects_exists(o, names[NAME_DICT_MOVED]);
    if (here < 0 || there < 0 || here + there > 1) {
        return "a dict under both its names";
    }
    ret->dict_moved = there == 1;
    const char *bad = observe_numbers(o, names, p, ret);
    bad = bad ? bad : observe_dict(o, names[there ? NAME_DICT_MOVED : NAME_DICT], &ret->dict);
    bad = bad ? bad : observe_dict(o, names[NAME_COPY], &ret->copy);
    bad = bad ? bad : observe_list(o, names[NAME_LIST], &ret->list[0]);
    bad = bad ? bad : observe_list(o, names[NAME_LIST_OTHER], &ret->list[1]);
    bad = bad ? bad : observe_brief(o, names[NAME_BRIEF], ret);
    bad = bad ? bad : observe_group(o, &names[NAME_MANY], MODEL_MANY, &ret->many);
    return bad ? bad : observe_flush(o, names, &ret->flush);
}

/* ---- comparing ---- */

static bool same_dict(const struct model_dict *a, const struct model_dict *b) {
    return memcmp(a->fields, b->fields, sizeof(a->fields)) == 0 &&
           memcmp(a->sums, b->sums, sizeof(a->sums)) == 0;
}

static bool is_empty(const struct model_dict *d) {
    static const struct model_dict nothing;
    return same_dict(d, &nothing);
}

static bool same_list(const struct model_list *a, const struct model_list *b) {
    return a->n == b->n && memcmp(a->at, b->at, a->n * sizeof(a->at[0])) == 0;
}

static bool same_brief(const struct model *seen, const struct model *m, uint64_t from_ms,
                       uint64_t to_ms) {
    bool over = m->brief_until && m->brief_until <= from_ms;
    bool may_be_over = m->brief_until && m->brief_until <= to_ms;
    bool same = seen->brief == m->brief && seen->brief_until == m->brief_until;
    return (same && !over) || (!seen->brief && (may_be_over || !m->brief));
}

const char *model_differs(const struct model *seen, const struct model *m, uint64_t from_ms,
                          uint64_t to_ms) {
    if (seen->value_len != m->value_len || memcmp(seen->value, m->value, m->value_len) != 0) {
        return "value";
    }
    if (seen->counter != m->counter) {
        return "counter";
    }
    if (!same_dict(&seen->dict, &m->dict)) {
        return "dict";
    }
    if (!is_empty(&m->dict) && seen->dict_moved != m->dict_moved) {
        return "name of the dict";
    }
    if (!same_dict(&seen->copy, &m->copy)) {
        return "copy of the dict";
    }
    if (!same_list(&seen->list[0], &m->list[0]) || !same_list(&seen->list[1], &m->list[1])) {
        return "lists";
    }
    if (!same_brief(seen, m, from_ms, to_ms)) {
        return "value that expires";
    }
    if (seen->many != m->many || seen->flush != m->flush) {
        return "keys that go together";
    }
    return seen->shared == m->shared ? NULL : "share of the total";
}
