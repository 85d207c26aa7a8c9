/* SPDX-License-Identifier: MIT */
/* Loads handler modules.
 *
 * RTLD_NOW: a symbol that is missing shows here, at start, not in the middle of a task. RTLD_LOCAL:
 * a module's symbols stay its own. Nothing of a module is called before it has passed the checks
 * here.
 *
 * The struct a module exports may be older (shorter) or newer (longer) than the one in our header.
 * It is copied into one of our size, what it lacks being 0, and its table of handlers is walked
 * with the stride it states. So the rest of the worker needs no thought about versions.
 *
 * Fails: -ENOENT (no such file, as dlopen has no errno for it), -ELIBBAD (not loadable, no
 * `hearth_module`, or it breaks a rule), -EPROTONOSUPPORT (another ABI), -ENOMEM; each with a
 * sentence that names the file. */
#include "worker/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the first version of the ABI had: a module may not be shorter. */
#define MODULE_SIZE_MIN                                                                            \
    (offsetof(struct hearth_module, worker_exit) + sizeof(((struct hearth_module *)0)->worker_exit))
#define HANDLER_SIZE_MIN                                                                           \
    (offsetof(struct hearth_handler, run) + sizeof(((struct hearth_handler *)0)->run))

static int refuse(char why[MODULE_WHY], int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int refuse(char why[MODULE_WHY], int error, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, MODULE_WHY, format, ap);
    va_end(ap);
    return error;
}

static int name_is_good(const char *name) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    size_t n = strnlen(name, 64);
    return n >= 1 && n <= 63 && strspn(name, allowed) == n;
}

static const struct hearth_handler *handler_at(const struct hearth_module *theirs, uint32_t i) {
    const char *table = (const char *)theirs->handlers;
    return (const struct hearth_handler *)(const void *)(table + (size_t)i * theirs->handler_size);
}

static int check_handlers(struct module *m, const struct hearth_module *theirs,
                          char why[MODULE_WHY]) {
    size_t take = theirs->handler_size < sizeof(struct hearth_handler)
                      ? theirs->handler_size
                      : sizeof(struct hearth_handler);
    while (handler_at(theirs, m->count)->name != NULL) {
        const struct hearth_handler *h = handler_at(theirs, m->count);
        if (m->count == MODULE_HANDLERS) {
            return refuse(why, -ELIBBAD, "more than %d handlers (is the table's end missing?)",
                          MODULE_HANDLERS);
        }
        if (!name_is_good(h->name)) {
            return refuse(why, -ELIBBAD,
                          "handler %u: a name is 1 to 63 of A-Z a-z 0-9 _ - . but not \"%.64s\"",
                          m->count, h->name);
        }
        if (h->run == NULL) {
            return refuse(why, -ELIBBAD, "handler %s has no run function", h->name);
        }
        for (uint32_t i = 0; i < m->count; i++) {
            if (strcmp(m->handlers[i].name, h->name) == 0) {
                return refuse(why, -ELIBBAD, "two handlers are named %s", h->name);
            }
        }
        memcpy(&m->handlers[m->count++], h, take);
    }
    if (m->count == 0) {
        return refuse(why, -ELIBBAD, "it has no handlers");
    }
    return 0;
}

int module_check(struct module *ret, const struct hearth_module *theirs, char why[MODULE_WHY]) {
    if (theirs->abi != HEARTH_ABI) {
        return refuse(why, -EPROTONOSUPPORT,
                      "built for version %u of the handler ABI, this is version %u: rebuild it",
                      theirs->abi, HEARTH_ABI);
    }
    if (theirs->size < MODULE_SIZE_MIN || theirs->handler_size < HANDLER_SIZE_MIN) {
        return refuse(why, -ELIBBAD,
                      "sizes %u and %u in its struct hearth_module are wrong: begin it with "
                      "HEARTH_MODULE_HEAD",
                      theirs->size, theirs->handler_size);
    }
    if (theirs->name == NULL || theirs->handlers == NULL) {
        return refuse(why, -ELIBBAD, "name or handlers are missing");
    }
    struct module m = {0};
    memcpy(&m.head, theirs, theirs->size < sizeof(m.head) ? theirs->size : sizeof(m.head));
    m.handlers = calloc(MODULE_HANDLERS, sizeof(*m.handlers));
    if (m.handlers == NULL) {
        return refuse(why, -ENOMEM, "no memory");
    }
    int r = check_handlers(&m, theirs, why);
    if (r < 0) {
        module_deinit(&m);
        return r;
    }
    *ret = m;
    return 0;
}

int module_load(struct module *ret, const char *path, char why[MODULE_WHY]) {
    if (access(path, R_OK) < 0) {
        int error = errno;
        return refuse(why, -error, "%s: %s", path, strerror(error));
    }
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (so == NULL) {
        return refuse(why, -ELIBBAD, "cannot load module: %s", dlerror());
    }
    const struct hearth_module *theirs = dlsym(so, "hearth_module");
    if (theirs == NULL) {
        return refuse(why, -ELIBBAD, "%s: not a Hearth module: exports no `hearth_module`", path);
    }
    char reason[MODULE_WHY];
    int r = module_check(ret, theirs, reason);
    if (r < 0) {
        return refuse(why, r, "%.200s: %.300s", path, reason);
    }
    return 0;
}

static struct hearth_handler *take_named(struct module *m, const char *name, size_t len) {
    for (uint32_t i = 0; i < m->count; i++) {
        struct hearth_handler *h = &m->handlers[i];
        if (h->name != NULL && strlen(h->name) == len && memcmp(h->name, name, len) == 0) {
            return h;
        }
    }
    return NULL;
}

int module_order(struct module *m, const char *known, char why[MODULE_WHY]) {
    struct hearth_handler *ordered = calloc(MODULE_HANDLERS, sizeof(*ordered));
    uint32_t n = 0;
    bool fits = true;
    if (ordered == NULL) {
        return refuse(why, -ENOMEM, "no memory");
    }
    for (const char *at = known; at != NULL && fits; n++) {
        size_t len = strcspn(at, ",");
        struct hearth_handler *h = take_named(m, at, len);
        fits = n < MODULE_HANDLERS;
        if (fits) {
            ordered[n] = h != NULL ? *h : (struct hearth_handler){.name = ""};
        }
        if (h != NULL) {
            h->name = NULL;
        }
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    for (uint32_t i = 0; i < m->count && fits; i++) {
        if (m->handlers[i].name != NULL) {
            fits = n < MODULE_HANDLERS;
            ordered[fits ? n++ : 0] = m->handlers[i];
        }
    }
    if (!fits) {
        free(ordered);
        return refuse(why, -ELIBBAD,
                      "more than %d handlers, those of former versions included: restart hearthd",
                      MODULE_HANDLERS);
    }
    free(m->handlers);
    m->handlers = ordered;
    m->count = n;
    return 0;
}

void module_deinit(struct module *m) {
    free(m->handlers);
    *m = (struct module){0};
}
