/* SPDX-License-Identifier: MIT */
/* A list of operations on shared objects as one transaction: in memory it is one of lib/shm/objects.h, over the connection
 * MULTI, the commands and EXEC.ALL, sent in one piece. Each kind of operation is written twice, as a call and as the words
 * of a command, and means the same both ways.
 *
 * What a call in memory found is good until the next call but one, so all of it is copied behind one another, and the
 * pointers are set when the copies have their final place. The function may be run again from the beginning: it then begins
 * with nothing copied.
 *
 * Fails: as hearth.h says. */
#include <errno.h>

#include "client/object.h"

/* ---- in memory ---- */

struct list {
    struct hearth *h;
    struct hearth_op *ops;
    size_t n;
};

/* Copies what was found; r says whether anything was. */
static int keep(struct hearth *h, struct hearth_op *op, int r, struct task_bytes b) {
    op->bytes = (struct hearth_bytes){NULL, 0};
    if (r) {
        return r == -ENOENT ? 0 : r;
    }
    if (buf_append(&h->kept, b.len ? b.data : "", b.len) < 0 || buf_append(&h->kept, "", 1) < 0) {
        return -ENOMEM;
    }
    op->bytes = (struct hearth_bytes){"", b.len}; /* its place comes later */
    return 0;
}

static int number(struct hearth_op *op, int64_t r) {
    op->number = r;
    return r < 0 ? (int)r : 0;
}

/* 0, -ENOENT or an error, of looking for what is expected. */
static int expect(const struct hearth_op *op, int r, struct task_bytes b) {
    if (r && r != -ENOENT) {
        return r;
    }
    bool same =
        r ? !op->value.data
          : op->value.data && op->value.len == b.len && memcmp(op->value.data, b.data, b.len) == 0;
    return same ? 0 : -ECANCELED;
}

static int run_value(struct hearth *h, struct objects *o, struct hearth_op *op) {
    struct task_bytes b = {0};
    int r;
    switch (op->kind) {
    case HEARTH_OP_VALUE_GET:
        r = objects_value_get(o, in(op->name), &b);
        return keep(h, op, r, b);
    case HEARTH_OP_VALUE_SET:
        return objects_value_set(o, in(op->name), in(op->value), 0, 0);
    case HEARTH_OP_VALUE_ADD:
        return objects_value_add(o, in(op->name), op->by, &op->number);
    case HEARTH_OP_VALUE_APPEND:
        return number(op, objects_value_append(o, in(op->name), in(op->value)));
    default:
        r = objects_value_get(o, in(op->name), &b);
        return expect(op, r, b);
    }
}

static int run_dict(struct hearth *h, struct objects *o, struct hearth_op *op) {
    struct task_bytes b = {0}, field = in(op->field);
    int r;
    switch (op->kind) {
    case HEARTH_OP_DICT_GET:
        r = objects_dict_get(o, in(op->name), field, &b);
        return keep(h, op, r, b);
    case HEARTH_OP_DICT_SET:
        return number(op, objects_dict_set(o, in(op->name), field, in(op->value)));
    case HEARTH_OP_DICT_DELETE:
        return number(op, objects_dict_delete(o, in(op->name), &field, 1));
    case HEARTH_OP_DICT_POP:
        r = objects_dict_pop(o, in(op->name), field, &b);
        return keep(h, op, r, b);
    case HEARTH_OP_DICT_ADD:
        return objects_dict_add(o, in(op->name), field, op->by, &op->number);
    default:
        r = objects_dict_get(o, in(op->name), field, &b);
        return expect(op, r, b);
    }
}

static enum objects_end end_of(enum hearth_end end) {
    return end == HEARTH_LEFT ? OBJECTS_LEFT : OBJECTS_RIGHT;
}

static int run_op(struct hearth *h, struct objects *o, struct hearth_op *op) {
    struct task_bytes b = {0}, name = in(op->name), value = in(op->value);
    int r;
    switch (op->kind) {
    case HEARTH_OP_DELETE:
        return number(op, objects_delete(o, &name, 1));
    case HEARTH_OP_EXPIRE:
        r = objects_expire(o, name, op->by);
        op->number = r != -ENOENT;
        return r == -ENOENT ? 0 : r;
    case HEARTH_OP_RENAME:
        return objects_rename(o, name, in(op->to), true);
    case HEARTH_OP_LIST_PUSH:
        return number(op, objects_list_push(o, name, end_of(op->end), &value, 1));
    case HEARTH_OP_LIST_POP:
        r = objects_list_pop(o, name, end_of(op->end), &b);
        return keep(h, op, r, b);
    case HEARTH_OP_LIST_MOVE:
        r = objects_list_move(o, name, end_of(op->end), in(op->to), end_of(op->to_end), &b);
        return keep(h, op, r, b);
    default:
        return op->kind < HEARTH_OP_DICT_GET ? run_value(h, o, op) : run_dict(h, o, op);
    }
}

static int run_list(struct objects *o, void *arg) {
    struct list *l = arg;
    buf_consume(&l->h->kept, buf_len(&l->h->kept));
    for (size_t i = 0; i < l->n; i++) {
        int r = run_op(l->h, o, &l->ops[i]);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static bool has_two_names(const struct hearth_op *op) {
    return op->kind == HEARTH_OP_RENAME || op->kind == HEARTH_OP_LIST_MOVE;
}

static int in_memory(struct hearth *h, struct hearth_op *ops, size_t n) {
    struct task_bytes names[2 * HEARTH_OPS_MAX] = {{0}};
    struct list l = {h, ops, n};
    size_t n_names = 0, at = 0;
    _Static_assert(2 * HEARTH_OPS_MAX <= OBJECTS_NAMES, "as many names as a transaction may have");
    for (size_t i = 0; i < n; i++) {
        names[n_names++] = in(ops[i].name);
        if (has_two_names(&ops[i])) {
            names[n_names++] = in(ops[i].to);
        }
    }
    int r = objects_transaction(&h->objects, names, n_names, run_list, &l);
    for (size_t i = 0; i < n && r >= 0; i++) {
        if (ops[i].bytes.data) {
            ops[i].bytes.data = buf_head(&h->kept) + at;
            at += ops[i].bytes.len + 1;
        }
    }
    return object_done(h, r);
}

/* ---- over the connection ---- */

enum { MOST_WORDS = 6 };
struct command {
    struct hearth_bytes words[MOST_WORDS];
    struct digits by;
};

static const char *end_word(enum hearth_end end) {
    return end == HEARTH_LEFT ? "LEFT" : "RIGHT";
}

/* The name of the command; what follows the key: f field, v value, b by, t to, e end, E to_end, x what is expected. */
static const struct {
    const char *left, *right, *words;
} commands_of[] = {
    [HEARTH_OP_DELETE] = {"DEL", "DEL", ""},
    [HEARTH_OP_EXPIRE] = {"PEXPIRE", "PEXPIRE", "b"},
    [HEARTH_OP_RENAME] = {"RENAME", "RENAME", "t"},
    [HEARTH_OP_VALUE_GET] = {"GET", "GET", ""},
    [HEARTH_OP_VALUE_SET] = {"SET", "SET", "v"},
    [HEARTH_OP_VALUE_ADD] = {"INCRBY", "INCRBY", "b"},
    [HEARTH_OP_VALUE_APPEND] = {"APPEND", "APPEND", "v"},
    [HEARTH_OP_VALUE_EXPECT] = {"VALUE.EXPECT", "VALUE.EXPECT", "x"},
    [HEARTH_OP_DICT_GET] = {"HGET", "HGET", "f"},
    [HEARTH_OP_DICT_SET] = {"HSET", "HSET", "fv"},
    [HEARTH_OP_DICT_DELETE] = {"HDEL", "HDEL", "f"},
    [HEARTH_OP_DICT_POP] = {"DICT.POP", "DICT.POP", "f"},
    [HEARTH_OP_DICT_ADD] = {"HINCRBY", "HINCRBY", "fb"},
    [HEARTH_OP_DICT_EXPECT] = {"DICT.EXPECT", "DICT.EXPECT", "fx"},
    [HEARTH_OP_LIST_PUSH] = {"LPUSH", "RPUSH", "v"},
    [HEARTH_OP_LIST_POP] = {"LPOP", "RPOP", ""},
    [HEARTH_OP_LIST_MOVE] = {"LMOVE", "LMOVE", "teE"},
};

static bool is_known(enum hearth_op_kind kind) {
    return kind >= HEARTH_OP_DELETE && kind <= HEARTH_OP_LIST_MOVE;
}

static size_t put_words(struct command *c, const struct hearth_op *op) {
    struct hearth_bytes *w = c->words;
    size_t n = 0;
    w[n++] = hearth_text(op->end == HEARTH_LEFT ? commands_of[op->kind].left
                                                : commands_of[op->kind].right);
    w[n++] = op->name;
    for (const char *p = commands_of[op->kind].words; *p; p++) {
        switch (*p) {
        case 'f':
            w[n++] = op->field;
            break;
        case 'v':
            w[n++] = op->value;
            break;
        case 'b':
            w[n++] = object_number(&c->by, op->by);
            break;
        case 't':
            w[n++] = op->to;
            break;
        case 'x':
            w[n++] = hearth_text(op->value.data ? "IF" : "ABSENT");
            if (op->value.data) {
                w[n++] = op->value;
            }
            break;
        default:
            w[n++] = hearth_text(end_word(*p == 'e' ? op->end : op->to_end));
        }
    }
    return n;
}

static bool gives_bytes(enum hearth_op_kind kind) {
    return kind == HEARTH_OP_VALUE_GET || kind == HEARTH_OP_DICT_GET ||
           kind == HEARTH_OP_DICT_POP || kind == HEARTH_OP_LIST_POP || kind == HEARTH_OP_LIST_MOVE;
}

static int over_connection(struct hearth *h, struct hearth_op *ops, size_t n) {
    struct command commands[HEARTH_OPS_MAX];
    struct object_command list[HEARTH_OPS_MAX] = {{0}};
    const struct hearth_reply *replies;
    for (size_t i = 0; i < n; i++) {
        list[i] = (struct object_command){commands[i].words, put_words(&commands[i], &ops[i])};
    }
    int r = object_exec(h, &replies, list, n);
    const struct hearth_reply *reply = r ? NULL : hearth_reply_first(replies);
    for (size_t i = 0; i < n && r == 0; i++, reply = hearth_reply_next(reply)) {
        ops[i].number = hearth_reply_type(reply) == HEARTH_REPLY_INT ? hearth_reply_int(reply) : 0;
        if (gives_bytes(ops[i].kind)) {
            ops[i].bytes = object_text(reply);
        }
    }
    return r;
}

int hearth_transaction(struct hearth *h, struct hearth_op *ops, size_t n) {
    bool known = n > 0 && n <= HEARTH_OPS_MAX;
    for (size_t i = 0; i < n && known; i++) {
        known = is_known(ops[i].kind);
        ops[i].number = 0;
        ops[i].bytes = (struct hearth_bytes){NULL, 0};
    }
    if (!known) {
        return result_say(h, -EINVAL, "%s", "1 to 128 operations of known kinds");
    }
    return attach_can(h, true) ? in_memory(h, ops, n) : over_connection(h, ops, n);
}
