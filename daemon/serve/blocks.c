/* SPDX-License-Identifier: MIT */
/* The raw blocks: a table of names, each with a memfd that the daemon keeps open, so that a block lives as long as its name and
 * no longer than its last user. The daemon never maps one: what is inside is its users' business alone.
 *
 * A block is sealed against another size, so nobody can turn another's mapping into SIGBUS, and its mode lets nobody but the
 * daemon's user open it anew by way of /proc: a descriptor that was passed for reading stays one.
 *
 * Names are kept in order, found by halving: there are a thousand or so, made seldom, and lists come out sorted. Limits are
 * sums over the table, so no count can go astray. What a user had is not his any more once the name is gone, though somebody
 * may have it mapped still; it is then as any other memory of that process.
 *
 * Under a service manager with a store, blocks outlive the daemon (blocks_keep.h).
 *
 * Fails: -errno. */
#include "daemon/serve/blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/serve/blocks_keep.h"
#include "daemon/serve/listen.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/manager.h"

enum { ROOM_FIRST = 16 };

struct blocks {
    struct block **v; /* by name */
    uint32_t n, cap;
    uint64_t bytes;
    struct blocks_keep keep;
};

static void block_free(struct block *b) {
    close(b->fd);
    free(b->name);
    free(b);
}

void blocks_close(struct serve *s) {
    struct blocks *t = s->blocks;
    if (!t) {
        return;
    }
    for (uint32_t i = 0; i < t->n; i++) {
        block_free(t->v[i]);
    }
    blocks_keep_close(&t->keep);
    free(t->v);
    free(t);
    s->blocks = NULL;
}

static int compare(const void *a, size_t a_len, const void *b, size_t b_len) {
    size_t n = a_len < b_len ? a_len : b_len;
    int r = n ? memcmp(a, b, n) : 0;
    return r ? r : (a_len > b_len) - (a_len < b_len);
}

/* The place of a name, or where it would be. */
static uint32_t place_of(const struct blocks *t, const void *name, size_t len, bool *ret_there) {
    uint32_t from = 0, to = t->n;
    *ret_there = false;
    while (from < to) {
        uint32_t at = from + (to - from) / 2;
        int r = compare(name, len, t->v[at]->name, t->v[at]->len);
        if (r == 0) {
            *ret_there = true;
            return at;
        }
        if (r < 0) {
            to = at;
        } else {
            from = at + 1;
        }
    }
    return from;
}

struct block *blocks_find(struct serve *s, const struct resp_arg *name) {
    bool there;
    uint32_t at = place_of(s->blocks, name->data, name->len, &there);
    return there ? s->blocks->v[at] : NULL;
}

static int over(struct serve *s, const char *whose, const char *key, uint64_t limit) {
    snprintf(s->quota, sizeof(s->quota), "QUOTA %s would be over limits.%s (%llu)", whose, key,
             (unsigned long long)limit);
    return -EDQUOT;
}

static int check_limits(struct conn *c, uint64_t size) {
    struct serve *s = c->serve;
    const struct blocks *t = s->blocks;
    const struct config_limits *l = &s->d->config->limits;
    uint64_t has = 0;
    if (t->n >= l->blocks_max) {
        return over(s, "the raw blocks", "blocks_max", l->blocks_max);
    }
    if (s->n_conns - s->n_own + t->n >= s->conns_max) {
        return -EMFILE;
    }
    if (l->blocks_bytes && (size > l->blocks_bytes || t->bytes > l->blocks_bytes - size)) {
        return over(s, "the bytes of all raw blocks", "blocks_bytes", l->blocks_bytes);
    }
    if (l->user_block_bytes == 0 || c->uid == 0 || c->uid == getuid()) {
        return 0;
    }
    for (uint32_t i = 0; i < t->n; i++) {
        has += t->v[i]->uid == c->uid ? t->v[i]->size : 0;
    }
    return size > l->user_block_bytes || has > l->user_block_bytes - size
               ? over(s, "the bytes of this user's raw blocks", "user_block_bytes",
                      l->user_block_bytes)
               : 0;
}

static int make_room(struct blocks *t) {
    if (t->n < t->cap) {
        return 0;
    }
    uint32_t cap = t->cap ? t->cap * 2 : ROOM_FIRST;
    struct block **v = realloc(t->v, cap * sizeof(struct block *));
    if (!v) {
        return -ENOMEM;
    }
    t->v = v;
    t->cap = cap;
    return 0;
}

static int make_memory(uint64_t size, int *ret_fd) {
    _cleanup_close_ int fd = memfd_create("hearth-block", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fchmod(fd, S_IRUSR | S_IWUSR) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        return -errno;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* Copies *b, whose descriptor it takes over. */
static int insert(struct blocks *t, uint32_t at, const struct block *b, struct block **ret) {
    int r = make_room(t);
    struct block *own = r < 0 ? NULL : malloc(sizeof(*own));
    char *name = malloc(b->len + 1);
    if (!own || !name) {
        free(own);
        free(name);
        return -ENOMEM;
    }
    *own = *b;
    own->name = name;
    memcpy(name, b->name, b->len);
    name[b->len] = '\0';
    memmove(t->v + at + 1, t->v + at, (t->n - at) * sizeof(struct block *));
    t->v[at] = own;
    t->n++;
    t->bytes += b->size;
    *ret = own;
    return 0;
}

/* One that a former daemon has left. */
static int found(void *arg, const struct block *b) {
    struct blocks *t = arg;
    struct block *own;
    bool there;
    uint32_t at = place_of(t, b->name, b->len, &there);
    int r = there ? -EEXIST : insert(t, at, b, &own);
    if (r < 0) {
        close(b->fd);
    }
    return r;
}

int blocks_open(struct serve *s) {
    struct blocks *t = s->blocks = calloc(1, sizeof(*t));
    if (!t) {
        return -ENOMEM;
    }
    blocks_keep_open(&t->keep, s->d->in_store, found, t);
    if (t->n) {
        log_info(LOG_ABOUT(.message = MESSAGE_SEGMENT), "took %u raw blocks back", t->n);
    }
    return 0;
}

int blocks_create(struct conn *c, const struct resp_arg *name, uint64_t size, bool owned,
                  struct block **ret) {
    struct serve *s = c->serve;
    struct blocks *t = s->blocks;
    uint64_t manager = manager_of(name->data, name->len);
    bool there;
    uint32_t at = place_of(t, name->data, name->len, &there);
    if (there) {
        return -EEXIST;
    }
    if (manager && manager_is_over(&s->d->shm, manager)) {
        return -EIDRM;
    }
    int r = check_limits(c, size);
    struct block b = {
        .name = (char *)(uintptr_t)name->data, /* to be copied */
        .len = name->len,
        .size = size,
        .uid = c->uid,
        .manager = manager,
        .owner = owned ? c : NULL,
        .created_ms = clock_wall_ms(),
    };
    r = r < 0 ? r : make_memory(size, &b.fd);
    if (r < 0) {
        return r;
    }
    r = insert(t, at, &b, ret);
    if (r < 0) {
        close(b.fd);
        return r;
    }
    c->blocks += owned;
    blocks_keep_add(&t->keep, *ret);
    return 0;
}

static void remove_at(struct serve *s, uint32_t at) {
    struct blocks *t = s->blocks;
    struct block *b = t->v[at];
    t->n--;
    t->bytes -= b->size;
    memmove(t->v + at, t->v + at + 1, (t->n - at) * sizeof(struct block *));
    if (b->owner) {
        b->owner->blocks--;
    }
    blocks_keep_remove(&t->keep, b);
    block_free(b);
}

void blocks_unlink(struct serve *s, struct block *b) {
    bool there;
    remove_at(s, place_of(s->blocks, b->name, b->len, &there));
    listen_resume(s);
}

int blocks_each(struct serve *s, int (*fn)(void *arg, const struct block *b), void *arg) {
    int r = 0;
    for (uint32_t i = 0; i < s->blocks->n && r == 0; i++) {
        r = fn(arg, s->blocks->v[i]);
    }
    return r;
}

uint32_t blocks_count(const struct serve *s) {
    return s->blocks ? s->blocks->n : 0;
}

uint64_t blocks_bytes(const struct serve *s) {
    return s->blocks->bytes;
}

void blocks_conn_ends(struct conn *c) {
    struct serve *s = c->serve;
    for (uint32_t i = c->blocks ? s->blocks->n : 0; i-- > 0;) {
        if (s->blocks->v[i]->owner == c) {
            remove_at(s, i);
        }
    }
}

void blocks_manager_ends(struct serve *s, uint64_t manager) {
    for (uint32_t i = s->blocks->n; i-- > 0;) {
        if (s->blocks->v[i]->manager == manager) {
            remove_at(s, i);
        }
    }
}
