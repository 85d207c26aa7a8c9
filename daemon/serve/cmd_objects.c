/* SPDX-License-Identifier: MIT */
/* DICT.*, LIST.* and VALUE.*: operations on shared objects that Redis has no command for. What each does is a call of
 * lib/shm/objects.h, the same one that a worker or a mapped client makes, so that all mean the same by it; here it
 * nests inside of the command's operation (object.h). A handle for the calls lives as long as a command: what a call found is
 * copied into the reply and freed.
 *
 * Fails: replies; the errnos of lib/shm. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/args.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/wait_keys.h"
#include "lib/base/cleanup.h"
#include "lib/shm/objects.h"

#define _cleanup_objects_ _cleanup_(objects_deinit)

static struct objects handle(struct conn *c) {
    struct objects o;
    objects_init(&o, object_shm(c));
    return o;
}

static struct task_bytes bytes(const struct resp_arg *a) {
    return (struct task_bytes){a->data, a->len};
}

/* The usual ends: a count, or bytes. */
static int answer_count(struct conn *c, int64_t r) {
    if (r >= 0) {
        reply_int(c, r);
    }
    return r < 0 ? (int)r : 0;
}

static int answer_bytes(struct conn *c, int r, const struct task_bytes *b) {
    if (r >= 0) {
        reply_bulk(c, b->data, b->len);
    } else if (r == -ENOENT) {
        reply_null(c);
        r = 0;
    }
    return r < 0 ? r : 0;
}

/* ---- dicts ---- */

int cmd_DICT_SETDEFAULT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    struct task_bytes v;
    (void)argc;
    int r = objects_dict_setdefault(&o, bytes(&argv[1]), bytes(&argv[2]), bytes(&argv[3]), &v);
    return answer_bytes(c, r, &v);
}

int cmd_DICT_POP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    struct task_bytes v;
    (void)argc;
    int r = objects_dict_pop(&o, bytes(&argv[1]), bytes(&argv[2]), &v);
    return answer_bytes(c, r, &v);
}

int cmd_DICT_POPITEM(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    struct task_bytes field, v;
    (void)argc;
    int r = objects_dict_popitem(&o, bytes(&argv[1]), &field, &v);
    if (r == 0) {
        reply_array(c, 2);
        reply_bulk(c, field.data, field.len);
        reply_bulk(c, v.data, v.len);
    } else if (r == -ENOENT) {
        reply_null_array(c);
        r = 0;
    }
    return r;
}

int cmd_DICT_ADD(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    size_t n = (argc - 2) / 2;
    if (argc % 2) {
        reply_wrong_args(c, "DICT.ADD", NULL);
        return 0;
    }
    _cleanup_free_ struct task_bytes *fields = calloc(n, sizeof(*fields));
    _cleanup_free_ int64_t *by = calloc(n, sizeof(*by));
    if (!fields || !by) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        fields[i] = bytes(&argv[2 + i * 2]);
        if (!args_i64(c, &argv[3 + i * 2], &by[i])) {
            return 0;
        }
    }
    int r = objects_dict_add_many(&o, bytes(&argv[1]), fields, by, n);
    if (r == -EDOM) {
        reply_error(c, "ERR hash value is not an integer");
        return 0;
    }
    if (r == 0) {
        reply_ok(c);
    }
    return r;
}

int cmd_DICT_CLEAR(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    (void)argc;
    return answer_count(c, objects_dict_clear(&o, bytes(&argv[1])));
}

/* ---- comparing ---- */

/* "IF value" or "ABSENT" at argv[*i], which goes on behind it; *ret is NULL for ABSENT. False: replied. */
static bool expectation(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t *i,
                        struct task_bytes *room, const struct task_bytes **ret) {
    if (*i + 1 < argc && resp_is(&argv[*i], "IF")) {
        *room = bytes(&argv[*i + 1]);
        *ret = room;
        *i += 2;
        return true;
    }
    if (*i < argc && resp_is(&argv[*i], "ABSENT")) {
        *ret = NULL;
        *i += 1;
        return true;
    }
    reply_syntax(c);
    return false;
}

int cmd_DICT_SWAP(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    struct task_bytes rooms[2];
    const struct task_bytes *expected, *value = NULL;
    uint32_t i = 3;
    if (!expectation(c, argv, argc, &i, &rooms[0], &expected)) {
        return 0;
    }
    if (argc == i + 2 && resp_is(&argv[i], "SET")) {
        rooms[1] = bytes(&argv[i + 1]);
        value = &rooms[1];
    } else if (argc != i + 1 || !resp_is(&argv[i], "DEL")) {
        reply_syntax(c);
        return 0;
    }
    return answer_count(c,
                        objects_dict_swap(&o, bytes(&argv[1]), bytes(&argv[2]), expected, value));
}

/* 0 with what was found, -ENOENT, or an error: is it as expected? */
static int answer_expected(struct conn *c, int r, const struct task_bytes *found,
                           const struct task_bytes *expected) {
    if (r && r != -ENOENT) {
        return r;
    }
    bool same = r ? !expected
                  : expected && expected->len == found->len &&
                        memcmp(expected->data, found->data, found->len) == 0;
    if (same) {
        reply_ok(c);
    } else {
        reply_error(c, "UNEXPECTED it is not as expected");
    }
    return 0;
}

int cmd_DICT_EXPECT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    struct task_bytes room, found;
    const struct task_bytes *expected;
    uint32_t i = 3;
    if (!expectation(c, argv, argc, &i, &room, &expected)) {
        return 0;
    }
    if (i != argc) {
        reply_syntax(c);
        return 0;
    }
    int r = objects_dict_get(&o, bytes(&argv[1]), bytes(&argv[2]), &found);
    return answer_expected(c, r, &found, expected);
}

int cmd_VALUE_EXPECT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    struct task_bytes room, found;
    const struct task_bytes *expected;
    uint32_t i = 2;
    if (!expectation(c, argv, argc, &i, &room, &expected)) {
        return 0;
    }
    if (i != argc) {
        reply_syntax(c);
        return 0;
    }
    int r = objects_value_get(&o, bytes(&argv[1]), &found);
    return answer_expected(c, r, &found, expected);
}

/* ---- lists ---- */

int cmd_LIST_INSERT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    int64_t index;
    (void)argc;
    if (!args_i64(c, &argv[2], &index)) {
        return 0;
    }
    int64_t r = objects_list_insert(&o, bytes(&argv[1]), index, bytes(&argv[3]));
    if (r > 0) {
        struct key_name name = object_name(c, &argv[1]);
        wait_keys_pushed(c->serve, &name);
    }
    return answer_count(c, r);
}

int cmd_LIST_DELETE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    int64_t from, count;
    (void)argc;
    if (!args_i64(c, &argv[2], &from) || !args_i64(c, &argv[3], &count)) {
        return 0;
    }
    return answer_count(c, objects_list_delete(&o, bytes(&argv[1]), from, count));
}

int cmd_LIST_COUNT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    (void)argc;
    return answer_count(c, objects_list_count(&o, bytes(&argv[1]), bytes(&argv[2])));
}

int cmd_LIST_REVERSE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    (void)argc;
    return answer_count(c, objects_list_reverse(&o, bytes(&argv[1])));
}

int cmd_LIST_SORT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    _cleanup_objects_ struct objects o = handle(c);
    unsigned order = 0;
    for (uint32_t i = 2; i < argc; i++) {
        if (resp_is(&argv[i], "ALPHA")) {
            order |= OBJECTS_ALPHA;
        } else if (resp_is(&argv[i], "DESC")) {
            order |= OBJECTS_DESCENDING;
        } else if (!resp_is(&argv[i], "ASC")) {
            reply_syntax(c);
            return 0;
        }
    }
    int64_t r = objects_list_sort(&o, bytes(&argv[1]), order);
    if (r == -EDOM) {
        reply_error(c, "ERR One or more scores can't be converted into double");
        return 0;
    }
    return answer_count(c, r);
}
