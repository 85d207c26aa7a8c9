/* SPDX-License-Identifier: MIT */
/* A configuration takes another's place. The new one is whole and checked; what it needs is got ready by those who need it
 * (supervise_prepare, serve_prepare), and up to there it can be refused, with nothing changed. Then it is put in force, which
 * cannot fail, and the former one is freed when the last pool that was started from it has let go of it.
 *
 * Keys that count only at the next start keep their values, and the plan says so. The plan is what will be different, a line
 * each: it is logged, and answered to who asked.
 *
 * Fails: -EINVAL, with *err and in INFO; -ENOMEM. */
#include "daemon/reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/serve/serve.h"
#include "daemon/supervise/supervise.h"
#include "daemon/timetable.h"
#include "lib/base/buf.h"

static char config_path[PATH_MAX]; /* "": none */
static const char *socket_path;

static void plan_line(void *arg, const struct config_change *c) {
    struct buf *plan = arg;
    switch (c->what) {
    case CONFIG_POOL_ADDED:
        buf_printf(plan, "pools.%s: added\n", c->key);
        break;
    case CONFIG_POOL_REMOVED:
        buf_printf(plan, "pools.%s: removed, when its tasks have ended\n", c->key);
        break;
    case CONFIG_PROCESS_ADDED:
        buf_printf(plan, "processes.%s: added\n", c->key);
        break;
    case CONFIG_PROCESS_REMOVED:
        buf_printf(plan, "processes.%s: removed, is told to end\n", c->key);
        break;
    case CONFIG_PROCESS_CHANGED:
        buf_printf(plan, "processes.%s: is another, is ended and started anew\n", c->key);
        break;
    default:
        if (c->when == CONFIG_RESTART) {
            buf_printf(plan, "%s: stays %s, %s needs a restart\n", c->key, c->from, c->to);
        } else if (c->is_private) {
            buf_printf(plan, "%s: is another (its workers are replaced)\n", c->key);
        } else {
            buf_printf(plan, "%s: %s -> %s%s\n", c->key, c->from, c->to,
                       c->when == CONFIG_ROLL ? " (its workers are replaced)" : "");
        }
        break;
    }
}

static void log_plan(const char *by, const struct buf *plan) {
    const char *at = buf_len(plan) ? buf_head(plan) : "";
    const char *end = at + buf_len(plan);
    log_notice(LOG_ABOUT(.message = MESSAGE_CONFIG), "%s: %s", by,
               at == end ? "nothing is different" : "a new configuration is in force:");
    while (at < end) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        int n = (int)((line ? line : end) - at);
        log_notice(LOG_ABOUT(.message = MESSAGE_CONFIG), "  %.*s", n, at);
        at += n + 1;
    }
}

static int prepare(struct hearthd *d, struct config *next, struct buf *plan,
                   struct config_error *err) {
    int r = config_compare(d->config, next, plan_line, plan);
    r = r < 0 ? r : config_settle(d->config, next);
    r = r < 0 ? r : supervise_prepare(d, next, plan, err);
    return r < 0 ? r : serve_prepare(d, next);
}

static int refused(struct hearthd *d, const char *by, int r, struct config_error *err) {
    static char text[PATH_MAX + 1024];
    if (!err->text[0]) {
        snprintf(err->text, sizeof(err->text), "%s", strerror(-r));
    }
    config_error_format(err, text, sizeof(text));
    free(d->reload_error);
    d->reload_error = strdup(text);
    log_err(LOG_ABOUT(.message = MESSAGE_CONFIG),
            "%s: refused, the configuration stays as it is: %s", by, text);
    return r;
}

static int reconfigure(struct hearthd *d, struct config *next, const char *by, struct buf *plan,
                       struct config_error *err) {
    *err = (struct config_error){0};
    int r = d->stopping ? -ESHUTDOWN : prepare(d, next, plan, err);
    if (r < 0) {
        config_free(next);
        return refused(d, by, r, err);
    }
    struct config *former = d->config;
    d->config = next;
    supervise_configure(d, plan);
    serve_configure(d);
    timetable_configure(d);
    log_open(next->log_level);
    config_free(former);
    d->reloads++;
    free(d->reload_error);
    d->reload_error = NULL;
    log_plan(by, plan);
    return 0;
}

static int reload(struct hearthd *d, const char *by, struct buf *plan, struct config_error *err) {
    struct config *next;
    int r = config_load(config_path[0] ? config_path : NULL, &next, err);
    if (r == 0) {
        const char *socket = d->socket_is_passed ? d->config->socket_path : socket_path;
        r = socket ? config_set_socket(next, socket) : 0;
        if (r < 0) {
            config_free(next);
        }
    }
    return r < 0 ? refused(d, by, r, err) : reconfigure(d, next, by, plan, err);
}

void reload_open(struct hearthd *d, const char *path, const char *socket) {
    snprintf(config_path, sizeof(config_path), "%s", path ? path : "");
    socket_path = socket;
    d->reconfigure = reconfigure;
    d->reload = reload;
}
