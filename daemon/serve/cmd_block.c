/* SPDX-License-Identifier: MIT */
/* BLOCK.*: raw blocks of memory by name. A client is given a descriptor and maps the memory; from then on the daemon has no part
 * in it. Who may look at objects may open one for reading, who may change them may make, write and unlink them: whoever has a
 * block can do harm in that block alone, so the role `map`, which trusts with all of the segment, is not asked for.
 *
 * A descriptor for reading only is a new opening of the memfd.
 *
 * Fails: replies. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/serve/args.h"
#include "daemon/serve/blocks.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/glob.h"

enum { FIELDS = 7, STAT_BLOCK = 512, SHOWN_MAX = 64 };

static bool may(struct conn *c, uint32_t role, const char *command) {
    if (c->roles & role) {
        return true;
    }
    roles_refuse(c, command);
    return false;
}

static struct block *find(struct conn *c, const struct resp_arg *name) {
    struct block *b = blocks_find(c->serve, name);
    if (!b) {
        reply_errorf(c, "NOBLOCK no such block '%.*s'",
                     (int)(name->len < SHOWN_MAX ? name->len : SHOWN_MAX), name->data);
    }
    return b;
}

/* The reply of an opening, with the descriptor. */
static void pass(struct conn *c, struct block *b, bool readonly) {
    char path[32];
    int fd = b->fd;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", b->fd);
    _cleanup_close_ int own = readonly ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (readonly) {
        fd = own;
    }
    if (fd < 0) {
        reply_errorf(c, "ERR the block cannot be opened for reading: %s", strerror(errno));
        return;
    }
    b->opened++;
    reply_map(c, 1);
    reply_field_int(c, "size", (int64_t)b->size);
    output_pass(c, &fd, 1);
}

static void refuse(struct conn *c, int r) {
    switch (r) {
    case -EEXIST:
        reply_error(c, "EXISTS there is a block of this name");
        break;
    case -EIDRM:
        reply_error(c, "NOMANAGER the manager that the name belongs to has ended");
        break;
    case -EDQUOT:
        reply_error(c, c->serve->quota);
        break;
    default:
        reply_errorf(c, "OOM no block can be made: %s", strerror(-r));
    }
}

int cmd_BLOCK_CREATE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    bool owned = false, opened = false;
    struct block *b;
    int64_t size;
    for (uint32_t i = 3; i < argc; i++) {
        bool is_owned = resp_is(&argv[i], "OWNED"), is_open = resp_is(&argv[i], "OPEN");
        if (!is_owned && !is_open) {
            reply_syntax(c);
            return 0;
        }
        owned |= is_owned;
        opened |= is_open;
    }
    if (!may(c, ROLE_WRITE, "BLOCK.CREATE") ||
        !args_range(c, &argv[2], 1, BLOCK_BYTES_MAX, "a block has 1 to 17592186044416 bytes",
                    &size) ||
        (opened && !output_can_pass(c, "BLOCK.CREATE with OPEN"))) {
        return 0;
    }
    if (argv[1].len == 0 || argv[1].len > BLOCK_NAME_MAX) {
        reply_errorf(c, "ERR the name of a block has 1 to %d bytes", BLOCK_NAME_MAX);
        return 0;
    }
    int r = blocks_create(c, &argv[1], (uint64_t)size, owned, &b);
    if (r < 0) {
        refuse(c, r);
    } else if (opened) {
        pass(c, b, false);
    } else {
        reply_ok(c);
    }
    return 0;
}

int cmd_BLOCK_OPEN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    bool readonly = argc == 3 && resp_is(&argv[2], "READONLY");
    if (argc > 3 || (argc == 3 && !readonly)) {
        reply_syntax(c);
        return 0;
    }
    if (!may(c, readonly ? ROLE_READ : ROLE_WRITE, "BLOCK.OPEN") ||
        !output_can_pass(c, "BLOCK.OPEN")) {
        return 0;
    }
    struct block *b = find(c, &argv[1]);
    if (b) {
        pass(c, b, readonly);
    }
    return 0;
}

int cmd_BLOCK_UNLINK(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    int64_t n = 0;
    if (!may(c, ROLE_WRITE, "BLOCK.UNLINK")) {
        return 0;
    }
    for (uint32_t i = 1; i < argc; i++) {
        struct block *b = blocks_find(c->serve, &argv[i]);
        if (b) {
            blocks_unlink(c->serve, b);
            n++;
        }
    }
    reply_int(c, n);
    return 0;
}

static void describe(struct conn *c, const struct block *b) {
    struct stat st;
    int64_t touched = fstat(b->fd, &st) == 0 ? (int64_t)st.st_blocks * STAT_BLOCK : 0;
    reply_map(c, FIELDS);
    reply_text(c, "name");
    reply_bulk(c, b->name, b->len);
    reply_field_int(c, "size", (int64_t)b->size);
    reply_field_int(c, "touched", touched);
    reply_field_int(c, "uid", b->uid);
    reply_field_int(c, "client", b->owner ? (int64_t)b->owner->id : 0);
    reply_field_int(c, "opened", (int64_t)b->opened);
    reply_field_int(c, "created", (int64_t)b->created_ms);
}

int cmd_BLOCK_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    const struct block *b = may(c, ROLE_READ, "BLOCK.INFO") ? find(c, &argv[1]) : NULL;
    if (b) {
        describe(c, b);
    }
    return 0;
}

struct listing {
    struct conn *c;
    const struct resp_arg *pattern; /* NULL: all */
    uint32_t n;
    bool count; /* only counts them */
};

static int each(void *arg, const struct block *b) {
    struct listing *l = arg;
    if (l->pattern && !glob_match(l->pattern->data, l->pattern->len, b->name, b->len)) {
        return 0;
    }
    l->n++;
    if (!l->count) {
        describe(l->c, b);
    }
    return 0;
}

int cmd_BLOCK_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct listing l = {.c = c, .pattern = argc > 1 ? &argv[1] : NULL, .count = true};
    if (argc > 2) {
        reply_syntax(c);
        return 0;
    }
    if (!may(c, ROLE_READ, "BLOCK.LIST")) {
        return 0;
    }
    blocks_each(c->serve, each, &l);
    reply_array(c, l.n);
    l.count = false;
    blocks_each(c->serve, each, &l);
    return 0;
}
