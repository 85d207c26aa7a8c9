/* SPDX-License-Identifier: MIT */
/* block: raw blocks of memory from the shell. read and write map the block and copy between it and standard output or input, so
 * that what is in it can be looked at, filled and saved with the usual tools.
 *
 * Fails: exit statuses. Input that does not fit is refused before a byte of what does not fit is written; what did fit is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"
#include "lib/base/fd.h"
#include "lib/base/num.h"

static int block_create(struct ctl *c) {
    const char *name = ctl_operand(c), *text = name ? ctl_operand(c) : NULL;
    uint64_t size;
    if (!text || ctl_operand(c)) {
        return ctl_usage(c, "hearth block create NAME SIZE");
    }
    if (num_size(text, &size) < 0) {
        return ctl_usage(c, "not a size: %s (try 4096, 64K, 1G)", text);
    }
    int status = ctl_connect(c);
    if (status == CTL_OK) {
        int r = hearth_block_create(c->h, hearth_text(name), size, 0, NULL);
        status = r == 0 ? CTL_OK : ctl_failed(c, r);
    }
    return status;
}

static int block_list(struct ctl *c) {
    static const struct ctl_column columns[] = {
        {"name", "NAME", CTL_TEXT},        {"size", "SIZE", CTL_BYTES},
        {"touched", "TOUCHED", CTL_BYTES}, {"uid", "UID", CTL_NUMBER},
        {"opened", "OPENED", CTL_NUMBER},  {"created", "CREATED", CTL_DATE},
    };
    const char *words[] = {"BLOCK.LIST", ctl_operand(c)};
    if (ctl_operand(c)) {
        return ctl_usage(c, "one PATTERN only");
    }
    return ctl_list(c, words[1] ? 2 : 1, words, columns, ARRAY_SIZE(columns), "no blocks");
}

static int block_rm(struct ctl *c) {
    int status = CTL_OK;
    const char *name = ctl_operand(c);
    if (!name) {
        return ctl_usage(c, "which one? NAME is missing");
    }
    status = ctl_connect(c);
    for (; name && status == CTL_OK; name = ctl_operand(c)) {
        int r = hearth_block_unlink(c->h, hearth_text(name));
        if (r == HEARTH_E_ABSENT) {
            status = ctl_say(c, CTL_NOTASK, "no such block: %s", name);
        } else if (r != 0) {
            status = ctl_failed(c, r);
        }
    }
    return status;
}

/* Maps the block that the next word names. */
static int map(struct ctl *c, int readonly, char **ret, uint64_t *ret_size) {
    const char *name = ctl_operand(c);
    _cleanup_close_ int fd = -1;
    void *at;
    if (!name) {
        return ctl_usage(c, "which one? NAME is missing");
    }
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    int r = hearth_block_open(c->h, hearth_text(name), readonly, &fd, ret_size);
    if (r == HEARTH_E_ABSENT) {
        return ctl_say(c, CTL_NOTASK, "no such block: %s", name);
    }
    r = r == 0 ? hearth_block_map(fd, readonly, &at, ret_size) : r;
    if (r != 0) {
        return ctl_failed(c, r);
    }
    *ret = at;
    return CTL_OK;
}

/* A word that is a number of bytes, if there is one. */
static bool number(struct ctl *c, uint64_t max, uint64_t *ret) {
    const char *text = ctl_operand(c);
    uint64_t v;
    if (text && (num_size(text, &v) < 0 || v > max)) {
        ctl_usage(c, "not a number of bytes up to %llu: %s", (unsigned long long)max, text);
        return false;
    }
    if (text) {
        *ret = v;
    }
    return true;
}

static int block_read(struct ctl *c) {
    char *data = NULL;
    uint64_t size = 0, from = 0, count = UINT64_MAX;
    int status = map(c, 1, &data, &size);
    if (status != CTL_OK) {
        return status;
    }
    if (!number(c, size, &from) || !number(c, INT64_MAX, &count)) {
        return CTL_USAGE;
    }
    count = count < size - from ? count : size - from;
    int r = fd_write_all(STDOUT_FILENO, data + from, (size_t)count);
    return r < 0 ? ctl_say(c, CTL_LOCAL, "cannot write: %s", strerror(-r)) : CTL_OK;
}

static int block_write(struct ctl *c) {
    char *data = NULL, more;
    uint64_t size = 0, at = 0;
    int status = map(c, 0, &data, &size);
    if (status != CTL_OK) {
        return status;
    }
    if (!number(c, size, &at)) {
        return CTL_USAGE;
    }
    for (;;) {
        ssize_t n = read(STDIN_FILENO, at < size ? data + at : &more, at < size ? size - at : 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return ctl_say(c, CTL_LOCAL, "cannot read: %s", strerror(errno));
        }
        if (n == 0) {
            return CTL_OK;
        }
        if (at == size) {
            return ctl_say(c, CTL_FAILED, "the block is full: the rest is left out");
        }
        at += (uint64_t)n;
    }
}

int cmd_block(struct ctl *c) {
    static const struct {
        const char *name;
        int (*run)(struct ctl *c);
    } verbs[] = {{"create", block_create},
                 {"list", block_list},
                 {"rm", block_rm},
                 {"read", block_read},
                 {"write", block_write}};
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *verb = ctl_operand(c);
    if (verb && ctl_option(c) == CTL_STOP) { /* those behind the verb */
        return c->status;
    }
    for (size_t i = 0; verb && i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verb, verbs[i].name) == 0) {
            return verbs[i].run(c);
        }
    }
    const char *name = verb && strcmp(verb, "show") == 0 ? ctl_operand(c) : NULL;
    return name ? ctl_show_each(c, "BLOCK.INFO", name)
                : ctl_usage(c, "create, list, show, read, write or rm?");
}
