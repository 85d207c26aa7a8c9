/* SPDX-License-Identifier: MIT */
/* POOL.RESIZE and POOL.RECYCLE: what a pool is to have, and its workers, made new. A size is a part of the configuration: it is
 * changed as CONFIG SET changes it, and CONFIG REWRITE keeps it.
 *
 * Fails: replies. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/serve/config.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/pools.h"
#include "daemon/serve/reply.h"
#include "lib/base/num.h"

static bool number_arg(struct conn *c, const struct resp_arg *a, uint32_t *ret) {
    uint64_t n;
    if (num_u64(a->data, a->len, &n) < 0 || n > CONFIG_WORKERS_MAX) {
        reply_errorf(c, "ERR a number of workers from 0 to %d is expected", CONFIG_WORKERS_MAX);
        return false;
    }
    *ret = (uint32_t)n;
    return true;
}

static int set_key(struct conn *c, struct config_edits *e, const struct pool *p, const char *key,
                   const char *value) {
    char name[CONFIG_POOL_NAME_MAX + 32];
    snprintf(name, sizeof(name), "pools.%s.%s", p->config->name, key);
    return config_edit(e, c->serve->d->config, name, value);
}

static int set_count(struct conn *c, struct config_edits *e, const struct pool *p, const char *key,
                     uint32_t n) {
    char text[16];
    snprintf(text, sizeof(text), "%u", n);
    return set_key(c, e, p, key, text);
}

/* A number is what there are always; two are the least and the most. */
static int set_size(struct conn *c, struct config_edits *e, const struct pool *p, uint32_t min,
                    uint32_t max) {
    const struct pool_config *f = p->config;
    bool grows = f->sizing == SIZING_DYNAMIC || (min != max && min > 0);
    int r = 0;
    if (f->sizing == SIZING_STATIC && min == max) {
        return set_count(c, e, p, "workers", max);
    }
    if (!grows && f->sizing == SIZING_ONDEMAND) {
        return set_count(c, e, p, "max", max);
    }
    if (f->sizing != SIZING_DYNAMIC) {
        r = set_key(c, e, p, "sizing", min == 0 ? "ondemand" : "dynamic");
    } else if (f->spare > max) {
        r = set_count(c, e, p, "spare", max);
    }
    if (r == 0 && (f->sizing == SIZING_DYNAMIC || min > 0)) {
        r = set_count(c, e, p, "min", min);
    }
    return r < 0 ? r : set_count(c, e, p, "max", max);
}

int cmd_POOL_RESIZE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static struct config_error err; /* large */
    struct config_edits e = {0};
    struct pool *p = pool_arg(c, &argv[1]);
    uint32_t min, max;
    if (!p || argc > 4 || !number_arg(c, &argv[2], &min) || !number_arg(c, &argv[argc - 1], &max)) {
        if (p && argc > 4) {
            reply_syntax(c);
        }
        return 0;
    }
    err = (struct config_error){0};
    int r = set_size(c, &e, p, min, max);
    r = r < 0 ? r : config_put(c, &e, "POOL.RESIZE", &err);
    config_edits_free(&e);
    if (r < 0) {
        reply_errorf(c, "ERR pool '%.*s' stays as it is: %s", (int)argv[1].len, argv[1].data,
                     err.text[0] ? err.text : strerror(-r));
    } else {
        reply_ok(c);
    }
    return 0;
}

int cmd_POOL_RECYCLE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct pool *p = pool_arg(c, &argv[1]);
    if (!p) {
        return 0;
    }
    bool reload = argc == 3 && resp_is(&argv[2], "RELOAD");
    if (argc > 2 && !reload) {
        reply_syntax(c);
    } else if (c->serve->d->stopping) {
        reply_error(c, "ERR the daemon is stopping");
    } else if (reload && pool_reload(c->serve->d, p) < 0) {
        reply_errorf(c, "BUSY pool '%s' is starting a new version already", p->config->name);
    } else {
        if (!reload) {
            pool_recycle(c->serve->d, p, "POOL.RECYCLE");
        }
        reply_ok(c);
    }
    return 0;
}
