/* SPDX-License-Identifier: MIT */
/* OBJECT and MEMORY: how a key is kept; MOVE and SWAPDB, which there is nothing for. The names of encodings are Redis's, as
 * near as they can be: clients only show them.
 *
 * Fails: replies; the errnos of lib/shm. */
#include <errno.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/args.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "lib/base/clock.h"

enum { EMBSTR_MAX = 44 };

static const char no_lfu[] =
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that "
    "when switching between policies at runtime LRU and LFU data will take some time to adjust.";

/* 0, 1: there is no such key, and null was replied; or an error. */
static int find(struct conn *c, const struct resp_arg *argv, struct key *ret) {
    struct key_name name = object_name(c, &argv[2]);
    int r = key_find(object_shm(c), &name, ret);
    if (r == -ENOENT) {
        reply_null(c);
        return 1;
    }
    return r;
}

static const char *encoding(struct conn *c, const struct key *key) {
    char digits[24];
    int64_t v;
    if (key_is_sync(key_type(key))) {
        return key_type_names[key_type(key)];
    }
    if (key_type(key) == KEY_DICT) {
        return "hashtable";
    }
    if (key_type(key) == KEY_LIST) {
        return "quicklist";
    }
    struct task_bytes b = value_bytes(object_shm(c), key, digits);
    return value_integer(b.data, b.len, &v) == 0 ? "int" : b.len <= EMBSTR_MAX ? "embstr" : "raw";
}

static int object_encoding(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key key;
    int r = find(c, argv, &key);
    if (r == 0) {
        reply_text(c, encoding(c, &key));
    }
    return r < 0 ? r : 0;
}

static int object_refcount(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key key;
    int r = find(c, argv, &key);
    if (r == 0) {
        reply_int(c, 1);
    }
    return r < 0 ? r : 0;
}

static int object_idletime(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key key;
    int r = find(c, argv, &key);
    if (r == 0) {
        uint64_t used = key_used_ms(&key), now = clock_wall_ms();
        reply_int(c, now > used ? (int64_t)((now - used) / 1000) : 0);
    }
    return r < 0 ? r : 0;
}

static int object_freq(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key key;
    int r = find(c, argv, &key);
    if (r == 0) {
        reply_error(c, no_lfu);
    }
    return r < 0 ? r : 0;
}

static int object_help(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    static const char *const lines[] = {
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return an error: access frequencies are not kept.",
        "IDLETIME <key>",
        "    Return the seconds since the <key> was made or touched.",
        "REFCOUNT <key>",
        "    Return 1: nothing is shared.",
        NULL,
    };
    reply_help(c, "OBJECT", lines);
    return 0;
}

int cmd_OBJECT(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static const struct subcommand table[] = {
        {"ENCODING", 3, object_encoding}, {"REFCOUNT", 3, object_refcount},
        {"IDLETIME", 3, object_idletime}, {"FREQ", 3, object_freq},
        {"HELP", 2, object_help},         {NULL, 0, NULL},
    };
    return dispatch_sub(c, "OBJECT", table, argv, argc);
}

static int memory_usage(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    int64_t samples = 5;
    struct key key;
    for (uint32_t i = 3; i < argc; i++) {
        if (!resp_is(&argv[i], "SAMPLES") || i + 1 == argc) {
            reply_syntax(c);
            return 0;
        }
        if (!args_i64(c, &argv[++i], &samples)) {
            return 0;
        }
        if (samples < 0) {
            reply_syntax(c);
            return 0;
        }
    }
    int r = find(c, argv, &key);
    if (r == 0) {
        uint32_t n = samples > UINT32_MAX ? 0 : (uint32_t)samples;
        reply_int(c, (int64_t)key_memory(object_shm(c), &key, n));
    }
    return r < 0 ? r : 0;
}

static int memory_help(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    static const char *const lines[] = {
        "USAGE <key> [SAMPLES <count>]",
        "    Return memory in bytes used by <key> and its value. Nested values are",
        "    sampled up to <count> times (default: 5, 0 means sample all).",
        NULL,
    };
    reply_help(c, "MEMORY", lines);
    return 0;
}

int cmd_MEMORY(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static const struct subcommand table[] = {
        {"USAGE", -3, memory_usage},
        {"HELP", 2, memory_help},
        {NULL, 0, NULL},
    };
    return dispatch_sub(c, "MEMORY", table, argv, argc);
}

int cmd_MOVE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    if (object_db(c, &argv[2])) {
        reply_error(c, "ERR source and destination objects are the same");
    }
    return 0;
}

int cmd_SWAPDB(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    static const char *const wrong[] = {"ERR invalid first DB index",
                                        "ERR invalid second DB index"};
    int64_t index[2];
    for (int i = 0; i < 2; i++) {
        if (dispatch_i64(&argv[i + 1], &index[i]) < 0 || index[i] > INT32_MAX ||
            index[i] < INT32_MIN) {
            reply_error(c, wrong[i]);
            return 0;
        }
    }
    if (index[0] != 0 || index[1] != 0) {
        reply_error(c, "ERR DB index is out of range");
    } else {
        reply_ok(c);
    }
    return 0;
}
