/* SPDX-License-Identifier: MIT */
/* CONFIG: the configuration in force, shown and changed. The keys are those of the file; a few names of Redis are shown beside
 * them, for tools made for it. What CONFIG SET changes goes the way of a reload: another configuration is made, checked as a
 * whole, and put in force as a whole, so several changes are made together or not at all.
 *
 * Fails: replies, in Redis's words where Redis has some. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/serve/config.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/glob.h"

enum { WORDS_MAX = 1024, KEY_MAX = 128, ERROR_MAX = PATH_MAX + 1024 };

/* ---- Redis's names ---- */

/* key: which of ours it is, NULL: none, and it always has this value. */
static const struct {
    const char *name, *key, *value;
} redis_names[] = {
    {"maxclients", "limits.max_clients", NULL},
    {"maxmemory", "segment_size", NULL},
    {"maxmemory-policy", NULL, "noeviction"},
    {"unixsocket", "socket", NULL},
    {"databases", NULL, "1"},
    {"save", NULL, ""},
    {"appendonly", NULL, "no"},
    {"timeout", NULL, "0"},
};

static bool word_is(const struct resp_arg *a, const char *text) {
    return strlen(text) == a->len && strncasecmp(a->data, text, a->len) == 0;
}

/* ---- GET ---- */

struct get {
    struct conn *c;
    const struct resp_arg *argv;
    uint32_t argc, n;
    bool show;
    const char *sought; /* of redis_names: this value alone, into text */
    char *text;
};

/* The argument that asks for this key; NULL: none does. */
static const struct resp_arg *wanted(const struct get *g, const char *name) {
    for (uint32_t i = 2; i < g->argc; i++) {
        if (glob_match_nocase(g->argv[i].data, g->argv[i].len, name, strlen(name))) {
            return &g->argv[i];
        }
    }
    return NULL;
}

static char *shown(const struct config_at *at) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (f) {
        config_show(at, f);
    }
    if (!f || fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void put(struct get *g, const char *name, const char *value) {
    const struct resp_arg *by = wanted(g, name);
    if (!by) {
        return;
    }
    g->n++;
    if (g->show && word_is(by, name)) { /* a name, not a pattern, is said back as it was spelt */
        reply_bulk(g->c, by->data, by->len);
    } else if (g->show) {
        reply_text(g->c, name);
    }
    if (g->show) {
        reply_text(g->c, value ? value : "");
    }
}

static bool get_one(void *arg, const struct config_at *at) {
    struct get *g = arg;
    if (config_is_private(at) && !(g->c->roles & ROLE_ADMIN)) {
        return true;
    }
    if (wanted(g, at->key)) {
        _cleanup_free_ char *text = g->show ? shown(at) : NULL;
        put(g, at->key, text);
    }
    return true;
}

static bool find_value(void *arg, const struct config_at *at) {
    struct get *g = arg;
    if (strcmp(at->key, g->sought) != 0) {
        return true;
    }
    g->text = shown(at);
    return false;
}

static void get_all(struct get *g) {
    const struct config *f = g->c->serve->d->config;
    g->n = 0;
    config_each(f, get_one, g);
    for (size_t i = 0; i < ARRAY_SIZE(redis_names); i++) {
        g->text = NULL;
        if (redis_names[i].key && wanted(g, redis_names[i].name)) {
            g->sought = redis_names[i].key;
            config_each(f, find_value, g);
        }
        put(g, redis_names[i].name, redis_names[i].key ? g->text : redis_names[i].value);
        free(g->text);
    }
}

static int config_get(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct get g = {.c = c, .argv = argv, .argc = argc};
    if (argc - 2 > WORDS_MAX) {
        reply_errorf(c, "ERR at most %d names", WORDS_MAX);
        return 0;
    }
    get_all(&g);
    reply_map(c, g.n);
    g.show = true;
    get_all(&g);
    return 0;
}

/* ---- SET ---- */

static bool refuses(struct conn *c, const char *command) {
    if (c->roles & ROLE_ADMIN) {
        return false;
    }
    roles_refuse(c, command);
    return true;
}

static char *text_of(const struct resp_arg *a) {
    return memchr(a->data, 0, a->len) ? strdup("\x01") : strndup(a->data, a->len);
}

static int failed_at(struct conn *c, const struct resp_arg *a, const char *why) {
    reply_errorf(c, "ERR CONFIG SET failed (possibly related to argument '%.*s') - %s",
                 (int)(a->len < KEY_MAX ? a->len : KEY_MAX), a->data, why);
    return -EINVAL;
}

/* What always has one value may be set to that. */
static int set_redis_name(struct conn *c, struct config_edits *e, const struct resp_arg *key,
                          const char *value) {
    for (size_t i = 0; i < ARRAY_SIZE(redis_names); i++) {
        if (!word_is(key, redis_names[i].name)) {
            continue;
        }
        if (redis_names[i].key) {
            return config_edit(e, c->serve->d->config, redis_names[i].key, value);
        }
        return strcmp(redis_names[i].value, value) == 0 ? 0 : -EPERM;
    }
    return -ENOENT;
}

static int set_pair(struct conn *c, struct config_edits *e, const struct resp_arg *argv) {
    _cleanup_free_ char *key = text_of(&argv[0]);
    _cleanup_free_ char *value = text_of(&argv[1]);
    int r = key && value ? config_edit(e, c->serve->d->config, key, value) : -ENOMEM;
    if (r == -ENOENT) {
        r = set_redis_name(c, e, &argv[0], value);
    }
    switch (r) {
    case 0:
        return 0;
    case -ENOENT:
        reply_errorf(c, "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                     (int)(argv[0].len < KEY_MAX ? argv[0].len : KEY_MAX), argv[0].data);
        return r;
    case -EEXIST:
        return failed_at(c, &argv[0], "duplicate parameter");
    case -EPERM:
        return failed_at(c, &argv[0], "can't set immutable config");
    default:
        reply_error(c, "OOM the daemon is out of memory");
        return r;
    }
}

int config_put(struct conn *c, const struct config_edits *e, const char *command,
               struct config_error *err) {
    struct hearthd *d = c->serve->d;
    struct buf plan = BUF_INIT;
    struct config *next;
    char by[64];
    snprintf(by, sizeof(by), "%s of user %u", command, (unsigned)c->uid);
    int r = config_with(d->config, e, command, &next, err);
    r = r < 0 ? r : d->reconfigure(d, next, by, &plan, err);
    buf_deinit(&plan);
    return r;
}

static int config_set(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static struct config_error err; /* large */
    struct config_edits e = {0};
    const struct resp_arg *related = &argv[2];
    int r = 0;
    if (refuses(c, "config|set")) {
        return 0;
    }
    if (argc % 2 != 0) {
        reply_syntax(c);
        return 0;
    }
    for (uint32_t i = 2; r == 0 && i < argc; i += 2) {
        r = set_pair(c, &e, &argv[i]);
    }
    if (r == 0 && e.n > 0) {
        r = config_put(c, &e, "CONFIG SET", &err);
        for (uint32_t i = 2; i < argc; i += 2) {
            related = word_is(&argv[i], err.key) ? &argv[i] : related;
        }
        if (r < 0) {
            failed_at(c, related, err.text[0] ? err.text : strerror(-r));
        }
    }
    if (r == 0) {
        reply_ok(c);
    }
    config_edits_free(&e);
    return 0;
}

/* ---- REWRITE, RELOAD, RESETSTAT ---- */

static int config_rewrite_files(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static struct config_error err;
    char text[ERROR_MAX];
    (void)argv;
    (void)argc;
    if (refuses(c, "config|rewrite")) {
        return 0;
    }
    int r = config_rewrite(c->serve->d->config, &err);
    if (r == -ENOENT && !err.text[0]) {
        reply_error(c, "ERR The server is running without a config file");
    } else if (r < 0) {
        reply_errorf(c, "ERR Rewriting config file: %s",
                     err.text[0] ? config_error_format(&err, text, sizeof(text)) : strerror(-r));
    } else {
        reply_ok(c);
    }
    return 0;
}

static int config_reload(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static struct config_error err;
    struct hearthd *d = c->serve->d;
    struct buf plan = BUF_INIT;
    char text[ERROR_MAX], by[64];
    (void)argv;
    (void)argc;
    if (refuses(c, "config|reload")) {
        return 0;
    }
    snprintf(by, sizeof(by), "CONFIG RELOAD of user %u", (unsigned)c->uid);
    int r = d->reload(d, by, &plan, &err);
    if (r < 0) {
        reply_errorf(c, "ERR the configuration stays as it is: %s",
                     config_error_format(&err, text, sizeof(text)));
    } else {
        uint32_t n = 0;
        for (size_t i = 0; i < buf_len(&plan); i++) {
            n += buf_head(&plan)[i] == '\n';
        }
        reply_array(c, n);
        for (const char *at = n ? buf_head(&plan) : NULL; n > 0; n--) {
            const char *end = strchr(at, '\n');
            reply_bulk(c, at, (size_t)(end - at));
            at = end + 1;
        }
    }
    buf_deinit(&plan);
    return 0;
}

static int config_resetstat(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    struct serve *s = c->serve;
    if (refuses(c, "config|resetstat")) {
        return 0;
    }
    s->accepted = s->refused = s->commands = s->errors = 0;
    s->bytes_in = s->bytes_out = s->closed_output = s->closed_protocol = 0;
    s->hits = s->misses = 0;
    memset(s->calls, 0, sizeof(s->calls));
    memset(s->rejected, 0, sizeof(s->rejected));
    memset(s->failed, 0, sizeof(s->failed));
    reply_ok(c);
    return 0;
}

static int config_help(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    static const char *const lines[] = {
        "GET <pattern>",
        "    Return parameters matching the glob-like <pattern> and their values.",
        "SET <directive> <value>",
        "    Set the configuration <directive> to <value>: all of several, or none.",
        "REWRITE",
        "    Write what was set into a file beside the configuration.",
        "RELOAD",
        "    Read the configuration's files again; return what is different.",
        "RESETSTAT",
        "    Reset statistics reported by the INFO command.",
        NULL,
    };
    reply_help(c, "CONFIG", lines);
    return 0;
}

int cmd_CONFIG(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static const struct subcommand table[] = {
        {"GET", -3, config_get},
        {"RESETSTAT", 2, config_resetstat},
        {"SET", -4, config_set},
        {"REWRITE", 2, config_rewrite_files},
        {"RELOAD", 2, config_reload},
        {"HELP", 2, config_help},
        {NULL, 0, NULL},
    };
    return dispatch_sub(c, "CONFIG", table, argv, argc);
}
