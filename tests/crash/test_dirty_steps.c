/* SPDX-License-Identifier: MIT */
/* Durable keys: death at every instruction of what changes them, and of taking and clearing what was noted (lib/shm/dirty.h). A
 * table of rows here stands for the database. Wherever somebody died, the rows and what is noted together must make the objects as they
 * are, also when it is written twice, and as they were before or after the operation. Fails: prints "not ok" and exits 1. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/alloc.h"
#include "lib/shm/dirty.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/list.h"
#include "lib/shm/objects.h"
#include "lib/shm/op.h"
#include "tests/crash/step.h"

#define T(text) ((struct task_bytes){text, sizeof(text) - 1})

/* ---- rows ---- */

enum { ROWS = 400, TEXT = 40 };
enum part { HEAD, FIELD, ITEM };
struct row {
    char key[TEXT];
    enum part part;
    char field[TEXT];
    uint64_t value; /* a sum over its bytes, type and expiry */
};
struct rows {
    unsigned n;
    struct row row[ROWS];
};

static struct rows stored, before, after;

static uint64_t sum(const void *data, size_t len, uint64_t seed) {
    return hash_bytes(data, len, seed + 1);
}

static void text(char to[TEXT], struct task_bytes b) {
    assert(b.len < TEXT);
    memset(to, 0, TEXT);
    memcpy(to, b.data, b.len);
}

static struct row row_of(const struct key_name *name, enum part part, struct task_bytes field) {
    struct row r;
    memset(&r, 0, sizeof(r)); /* rows are compared as bytes */
    r.part = part;
    text(r.key, (struct task_bytes){name->word.data, name->word.len});
    text(r.field, field);
    return r;
}

static struct task_bytes place_text(char to[TEXT], int64_t position) {
    /* in order as text */
    return (struct task_bytes){to, (size_t)snprintf(to, TEXT, "%d", (int)(position + 500000))};
}

static bool same_place(const struct row *a, const struct row *b) {
    return strcmp(a->key, b->key) == 0 && a->part == b->part && strcmp(a->field, b->field) == 0;
}

static void drop_row(struct rows *t, unsigned i) {
    t->row[i] = t->row[--t->n];
}

static void remove_row(struct rows *t, const struct row *r) {
    for (unsigned i = 0; i < t->n; i++) {
        if (same_place(&t->row[i], r)) {
            drop_row(t, i--);
        }
    }
}

static void put_row(struct rows *t, const struct row *r) {
    remove_row(t, r);
    assert(t->n < ROWS);
    t->row[t->n++] = *r;
}

static void remove_key(struct rows *t, const char *key) {
    for (unsigned i = 0; i < t->n; i++) {
        if (strcmp(t->row[i].key, key) == 0) {
            drop_row(t, i--);
        }
    }
}

static int by_place(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    int r = strcmp(x->key, y->key);
    r = r ? r : (int)x->part - (int)y->part;
    return r ? r : strcmp(x->field, y->field);
}

static void order(struct rows *t) {
    qsort(t->row, t->n, sizeof(t->row[0]), by_place);
}

/* Both in order. Where a list begins does not matter here: its elements are counted from there. */
static bool same(const struct rows *a, const struct rows *b) {
    return a->n == b->n && memcmp(a->row, b->row, a->n * sizeof(a->row[0])) == 0;
}

/* ---- objects to rows ---- */

struct walk {
    struct shm *s;
    struct rows *to;
    const struct key_name *name;
    int64_t base;
};

static int walk_field(void *arg, struct shm_node *n) {
    struct walk *w = arg;
    struct task_bytes field, value;
    field.data = hash_key(w->s, n, &field.len);
    value.data = hash_value(w->s, n, &value.len);
    assert(field.data && value.data);
    struct row r = row_of(w->name, FIELD, field);
    r.value = sum(value.data, value.len, 0);
    put_row(w->to, &r);
    return 0;
}

static int walk_element(void *arg, uint64_t index, const void *data, size_t len) {
    struct walk *w = arg;
    char place[TEXT];
    struct row r = row_of(w->name, ITEM, place_text(place, w->base + (int64_t)index));
    r.value = sum(data, len, 0);
    put_row(w->to, &r);
    return 0;
}

static void put_head(struct rows *to, struct shm *s, const struct key *key) {
    char digits[24];
    struct row r = row_of(&key->name, HEAD, T(""));
    struct task_bytes b =
        key_type(key) == KEY_VALUE ? value_bytes(s, key, digits) : (struct task_bytes){"", 0};
    r.value = sum(b.data, b.len, key_expire(key) * 16 + key_type(key));
    put_row(to, &r);
}

static void put_whole(struct rows *to, struct shm *s, const struct key *key) {
    struct walk w = {s, to, &key->name, 0};
    put_head(to, s, key);
    if (key_type(key) == KEY_DICT) {
        struct dict d;
        uint64_t cursor = 0;
        int r = dict_open(s, &key->name, false, &d);
        assert(r == 0);
        do {
            r = hash_scan(s, d.fields, &cursor, walk_field, &w);
            assert(r == 0);
        } while (cursor);
    } else if (key_type(key) == KEY_LIST) {
        struct list_object l;
        int r = list_open(s, &key->name, false, &l);
        assert(r == 0);
        w.base = list_base(&l);
        r = list_walk(s, &l, 0, false, walk_element, &w);
        assert(r == 0);
    }
}

static int dump_key(void *arg, const void *name, size_t len, const struct shm_key *k) {
    struct walk *w = arg;
    struct key_name n = key_name(w->s, name, len);
    struct key key;
    (void)k;
    if (dirty_is_durable(&n) && key_find(w->s, &n, &key) == 0) {
        put_whole(w->to, w->s, &key);
    }
    return 0;
}

static int in_dump(struct shm *s, void *arg) {
    struct walk *w = arg;
    uint64_t cursor = 0;
    int r;
    w->s = s;
    w->to->n = 0;
    do {
        r = keys_scan(s, &cursor, dump_key, w);
    } while (r == 0 && cursor);
    return r;
}

static void dump(struct shm *s, struct rows *to) {
    struct walk w = {.to = to};
    int r = op_run(s, OP_ALL, in_dump, &w);
    assert(r == 0);
    order(to);
}

/* ---- what is noted, to rows: as the daemon does it ---- */

static void apply_bounds(struct rows *to, const struct key_name *name,
                         const struct list_object *l) {
    char first[TEXT], end[TEXT];
    struct row like = row_of(name, ITEM, T(""));
    place_text(first, list_base(l));
    place_text(end, list_base(l) + (int64_t)list_count(l));
    for (unsigned i = 0; i < to->n; i++) {
        const struct row *r = &to->row[i];
        if (r->part == ITEM && strcmp(r->key, like.key) == 0 &&
            (strcmp(r->field, first) < 0 || strcmp(r->field, end) >= 0)) {
            drop_row(to, i--);
        }
    }
}

static void apply_key(struct rows *to, struct shm *s, const struct dirty *e) {
    struct key key;
    struct row head = row_of(&e->name, HEAD, T(""));
    int r = key_find(s, &e->name, &key);
    assert(r == 0 || r == -ENOENT);
    if (r || e->whole) {
        remove_key(to, head.key);
    }
    if (r == 0 && e->whole) {
        put_whole(to, s, &key);
    } else if (r == 0) {
        struct list_object l;
        put_head(to, s, &key);
        if (key_type(&key) == KEY_LIST && list_open(s, &e->name, false, &l) == 0) {
            apply_bounds(to, &e->name, &l);
        }
    }
}

static void apply_part(struct rows *to, struct shm *s, const struct dirty *e) {
    struct dict d;
    struct list_object l;
    struct task_bytes b;
    char place[TEXT];
    if (e->kind == DIRTY_FIELD && dict_open(s, &e->name, false, &d) == 0) {
        struct row row = row_of(&e->name, FIELD, e->field);
        if (dict_get(s, &d, e->field.data, e->field.len, &b) == 0) {
            row.value = sum(b.data, b.len, 0);
            put_row(to, &row);
        } else {
            remove_row(to, &row);
        }
    } else if (e->kind == DIRTY_ITEM && list_open(s, &e->name, false, &l) == 0 &&
               list_at(s, &l, (uint64_t)(e->position - list_base(&l)), &b) == 0) {
        struct row row = row_of(&e->name, ITEM, place_text(place, e->position));
        row.value = sum(b.data, b.len, 0);
        put_row(to, &row);
    }
}

static struct rows base;
static void apply_begin(void *arg) {
    *(struct rows *)arg = base;
}

static int apply(void *arg, struct shm *s, const struct dirty *e) {
    if (e->kind == DIRTY_KEY) {
        apply_key(arg, s, e);
    } else {
        apply_part(arg, s, e);
    }
    return 0;
}

static int take(struct shm *s, struct rows *to) {
    base = *to;
    dirty_look(s);
    return dirty_take(s, dirty_shards(s), apply_begin, apply, to);
}

static void clear_all(struct shm *s) {
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        int r;
        do {
            r = dirty_clear(s, i);
        } while (r == 1);
        assert(r == 0);
    }
}

/* ---- the cases ---- */

static struct objects with(struct shm *s) {
    struct objects o;
    objects_init(&o, s);
    return o;
}

struct expiry {
    const char *key;
    uint64_t at_ms;
};

static int expire_at(struct shm *s, void *arg) {
    const struct expiry *e = arg;
    struct key_name n = key_name(s, e->key, strlen(e->key));
    struct key key;
    int r = key_find_write(s, &n, &key);
    return r ? r : key_set_expire(s, &key, e->at_ms);
}

static void fill(struct shm *s) {
    struct objects o = with(s);
    char field[16];
    struct task_bytes e = T("an element of some length"), got;
    int64_t r = 0;
    dirty_set_state(s, DIRTY_READY);
    r |=
        objects_value_set(&o, T("durable:v"), T("forty bytes or so that lie in their node."), 0, 0);
    r |= objects_value_set(&o, T("durable:n"), T("12"), 0, 0);
    r |= objects_value_set(&o, T("plain"), T("not durable"), 0, 0);
    r |= objects_dict_set(&o, T("plain dict"), T("f"), T("x")) < 0;
    r |= objects_dict_set(&o, T("durable:one"), T("only"), T("x")) < 0;
    for (int i = 0; i < 12; i++) {
        struct task_bytes f = {field, (size_t)snprintf(field, sizeof(field), "f%d", i)};
        r |= objects_dict_set(&o, T("durable:d"), f, e) < 0;
        f.len = (size_t)snprintf(field, sizeof(field), "e%d", i);
        r |= objects_list_push(&o, T("durable:l"), i % 3 == 0 ? OBJECTS_LEFT : OBJECTS_RIGHT, &f,
                               1) < 0;
    }
    r |= objects_list_pop(&o, T("durable:l"), OBJECTS_LEFT, &got);
    r |= objects_value_set(&o, T("durable:over"), T("x"), 0, 0);
    struct expiry long_ago = {"durable:over", 1};
    r |= op_run(s, OP_ALL, expire_at, &long_ago);
    assert(r == 0);
    objects_deinit(&o);
}

static struct objects *o;
static void set_new(void) {
    objects_value_set(o, T("durable:new"), T("some bytes"), 0, 0);
}
static void set_again(void) {
    objects_value_set(o, T("durable:v"), T("others"), 0, 0);
}
static void set_over_dict(void) {
    objects_value_set(o, T("durable:d"), T("others"), 0, 0);
}
static void count(void) {
    objects_value_add(o, T("durable:n"), 5, NULL);
}
static void append(void) {
    objects_value_append(o, T("durable:v"), T(" and more"));
}
static void remove_dict(void) {
    objects_delete(o, &T("durable:d"), 1);
}
static void remove_list(void) {
    objects_delete(o, &T("durable:l"), 1);
}
static void expire(void) {
    struct expiry far = {"durable:d", UINT64_C(99999999999999)};
    op_run(o->shm, OP_ALL, expire_at, &far);
}
static void rename_within(void) {
    objects_rename(o, T("durable:d"), T("durable:e"), true);
}
static void rename_away(void) {
    objects_rename(o, T("durable:l"), T("elsewhere"), true);
}
static void rename_here(void) {
    objects_rename(o, T("plain dict"), T("durable:d"), true);
}
static void set_field(void) {
    objects_dict_set(o, T("durable:d"), T("new"), T("v"));
}
static void set_field_again(void) {
    objects_dict_set(o, T("durable:d"), T("f3"), T("v"));
}
static void make_dict(void) {
    objects_dict_set(o, T("durable:made"), T("f3"), T("v"));
}
static void set_fields(void) {
    const struct task_bytes pairs[] = {T("f1"), T("1"), T("g1"), T("1"), T("g2"), T("2")};
    objects_dict_update(o, T("durable:d"), pairs, 3);
}
static void remove_field(void) {
    objects_dict_delete(o, T("durable:d"), &T("f4"), 1);
}
static void remove_last_field(void) {
    objects_dict_delete(o, T("durable:one"), &T("only"), 1);
}
static void push_left(void) {
    objects_list_push(o, T("durable:l"), OBJECTS_LEFT, &T("p"), 1);
}
static void push_right(void) {
    objects_list_push(o, T("durable:l"), OBJECTS_RIGHT, &T("p"), 1);
}
static void pop_left(void) {
    struct task_bytes b;
    objects_list_pop(o, T("durable:l"), OBJECTS_LEFT, &b);
}
static void pop_right(void) {
    struct task_bytes b;
    objects_list_pop(o, T("durable:l"), OBJECTS_RIGHT, &b);
}
static void set_element(void) {
    objects_list_set(o, T("durable:l"), 4, T("set"));
}
static void insert(void) {
    objects_list_insert(o, T("durable:l"), 4, T("inserted"));
}
static void remove_middle(void) {
    objects_list_delete(o, T("durable:l"), 3, 2);
}
static void trim(void) {
    objects_list_trim(o, T("durable:l"), 2, 6);
}
static void sort(void) {
    objects_list_sort(o, T("durable:l"), OBJECTS_ALPHA);
}
static void move_element(void) {
    struct task_bytes b;
    objects_list_move(o, T("durable:l"), OBJECTS_LEFT, T("durable:m"), OBJECTS_RIGHT, &b);
}
static int several(struct objects *in, void *arg) {
    (void)arg;
    struct objects *outer = o;
    o = in;
    push_left();
    set_field();
    count();
    remove_last_field();
    o = outer;
    return 0;
}
static void transaction(void) {
    const struct task_bytes names[] = {T("durable:l"), T("durable:d"), T("durable:n"),
                                       T("durable:one")};
    objects_transaction(o, names, ARRAY_SIZE(names), several, NULL);
}
static int in_flush(struct shm *s, void *arg) {
    (void)arg;
    return keys_flush(s, key_name(s, "durable:d", 9).shard);
}
static void flush(void) {
    op_run(o->shm, OP_ALL, in_flush, NULL);
}
static int in_sweep(struct shm *s, void *arg) {
    uint64_t cursor = 0;
    (void)arg;
    return keys_expire_some(s, key_name(s, "durable:over", 12).shard, UINT64_C(9999999999999),
                            &cursor, 100);
}
static void sweep(void) {
    op_run(o->shm, OP_ALL, in_sweep, NULL);
}

static const struct {
    const char *name;
    void (*fn)(void);
} cases[] = {
    {"value made", set_new},
    {"value set again", set_again},
    {"value in place of a dict", set_over_dict},
    {"value counted", count},
    {"value appended to", append},
    {"dict deleted", remove_dict},
    {"list deleted", remove_list},
    {"expiry set", expire},
    {"renamed", rename_within},
    {"renamed to one that is not durable", rename_away},
    {"renamed from one that is not durable, over another", rename_here},
    {"field added", set_field},
    {"field set again", set_field_again},
    {"dict made", make_dict},
    {"several fields", set_fields},
    {"field removed", remove_field},
    {"last field removed", remove_last_field},
    {"pushed left", push_left},
    {"pushed right", push_right},
    {"popped left", pop_left},
    {"popped right", pop_right},
    {"element set", set_element},
    {"element inserted", insert},
    {"elements removed", remove_middle},
    {"trimmed", trim},
    {"sorted", sort},
    {"moved to another list", move_element},
    {"several in a transaction", transaction},
    {"shard flushed", flush},
    {"expired key swept", sweep},
};

static void (*current)(void);

static void run_current(struct shm *s) {
    struct objects mine = with(s);
    o = &mine;
    current();
    objects_deinit(&mine);
}

static void settle(struct shm *s, struct rows *to) {
    int r = take(s, to);
    assert(r >= 0);
    clear_all(s);
}

static void setup(struct shm *s) {
    fill(s);
    stored.n = 0;
    settle(s, &stored);
    dump(s, &before);
    struct shm copy = step_foresee(s, STEP_SUPERVISOR);
    run_current(&copy);
    dump(&copy, &after);
}

/* The rows and what is noted make what is there; twice is as once. */
static const char *verify_rows(struct shm *s, const struct rows *from) {
    static struct rows now, rows;
    dump(s, &now);
    rows = *from;
    for (int i = 0; i < 2; i++) {
        if (take(s, &rows) < 0) {
            return "what is noted cannot be taken";
        }
        order(&rows);
        if (!same(&rows, &now)) {
            return i ? "written twice it is another" : "what is noted does not lead there";
        }
    }
    const char *bad = step_check(s, "check when it is taken", NULL);
    clear_all(s);
    settle(s, &rows); /* what a predecessor left is met before the tables change places */
    dirty_look(s);
    if (!bad && dirty_shards(s)) {
        bad = "something stays noted";
    }
    return bad ? bad : step_check(s, "check when it is cleared", NULL);
}

static const char *verify(struct shm *s, bool finished) {
    static struct rows now;
    const char *bad = step_recover(s, STEP_VICTIM);
    bad = bad ? bad : step_check(s, "check after recovery", NULL);
    if (bad) {
        return bad;
    }
    dump(s, &now);
    if (!same(&now, &after) && (finished || !same(&now, &before))) {
        return "neither as before nor as after";
    }
    return verify_rows(s, &stored);
}

/* ---- the daemon's own death ---- */

static void setup_noted(struct shm *s) {
    fill(s);
    stored.n = 0;
    settle(s, &stored);
    void (*const some[])(void) = {set_field, pop_left, push_right, rename_within, count};
    for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
        current = some[i];
        run_current(s);
    }
    dump(s, &before);
    after = before;
}

static void setup_taken(struct shm *s) {
    setup_noted(s);
    int r = take(s, &stored);
    assert(r > 0);
    current = push_left; /* while it is being written */
    run_current(s);
    current = set_again;
    run_current(s);
    dump(s, &before);
    after = before;
}

static void op_take(struct shm *s) {
    static struct rows rows;
    int r = take(s, &rows);
    assert(r > 0);
}

int main(void) {
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        current = cases[i].fn;
        step_run(&(struct step_case){
            .name = cases[i].name, .setup = setup, .op = run_current, .verify = verify});
    }
    static const struct step_case daemon[] = {
        {.name = "taking", .setup = setup_noted, .op = op_take, .verify = verify},
        {.name = "clearing", .setup = setup_taken, .op = clear_all, .verify = verify},
        {.name = "taking by a successor", .setup = setup_taken, .op = op_take, .verify = verify},
    };
    for (size_t i = 0; i < ARRAY_SIZE(daemon); i++) {
        step_run(&daemon[i]);
    }
    return step_end();
}
