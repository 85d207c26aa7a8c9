/* SPDX-License-Identifier: MIT */
/* The memfds of raw blocks are in the store under the names hearth-block-0, -1, ...: names of descriptors are too narrow for
 * those of blocks. Which is whose is in a table, a memfd of its own (hearth-blocks) with a row for each number. OWNED blocks and
 * those of managers end with the daemon anyhow, and are not kept.
 *
 * A block is kept if its row is there and the descriptor with its number is that very memfd (by its inode). So the order of
 * steps is such that a death between two leaves one without the other, which is tidied up by the next daemon: the row, then
 * the descriptor; and to forget it, the row, then the descriptor. A row lies within a page and is written by one call, which
 * SIGKILL does not cut in two. Nobody else has the table.
 *
 * Fails: nothing here fails; what cannot be kept is logged once. */
#include "daemon/serve/blocks_keep.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/notify.h"

#define ABOUT LOG_ABOUT(.message = MESSAGE_SEGMENT)
#define TABLE "hearth-blocks"
#define BLOCK "hearth-block-%u"

enum { OTHERS = 16 }; /* places in the store that are not for blocks */

struct row {
    uint64_t ino, size, created_ms;
    uint32_t uid, len; /* len 0: free */
    char name[BLOCK_NAME_MAX + 1];
    char pad[512 - 3 * 8 - 2 * 4 - BLOCK_NAME_MAX - 1];
};
_Static_assert(sizeof(struct row) == 512, "rows do not lie across pages");

static int write_row(const struct blocks_keep *k, uint32_t i, const struct row *row) {
    ssize_t n = pwrite(k->table, row, sizeof(*row), (off_t)(i * sizeof(*row)));
    return n == sizeof(*row) ? 0 : n < 0 ? -errno : -ENOSPC;
}

static void forget(const struct blocks_keep *k, uint32_t i) {
    static const struct row none;
    char name[32];
    write_row(k, i, &none);
    snprintf(name, sizeof(name), BLOCK, i);
    notify_unstore(name);
}

static int open_table(void) {
    int at = 0;
    int fd = passed_fd(TABLE, &at);
    if (fd >= 0) {
        return fd;
    }
    fd = memfd_create(TABLE, MFD_CLOEXEC);
    if (fd >= 0 && notify_store(TABLE, fd) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Is it the memfd that the row is about? */
static bool is_it(int fd, const struct row *row) {
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_ino == row->ino && (uint64_t)st.st_size == row->size &&
           row->len > 0 && row->len <= BLOCK_NAME_MAX;
}

/* The descriptors with this number: one, or what a death has left. */
static int take(const struct row *row, uint32_t i) {
    char name[32];
    int at = 0, fd, found = -1;
    snprintf(name, sizeof(name), BLOCK, i);
    while ((fd = passed_fd(name, &at)) >= 0) {
        if (found < 0 && is_it(fd, row)) {
            found = fd;
        } else {
            close(fd);
        }
    }
    return found;
}

void blocks_keep_open(struct blocks_keep *k, bool store,
                      int (*fn)(void *arg, const struct block *b), void *arg) {
    const char *room = getenv("FDSTORE");
    long n = room ? atol(room) - OTHERS : 0;
    k->table = store && n > 0 ? open_table() : -1;
    k->n_rows = n > BLOCKS_KEEP_ROWS ? BLOCKS_KEEP_ROWS : n > 0 ? (uint32_t)n : 0;
    for (uint32_t i = 0; k->table >= 0 && i < BLOCKS_KEEP_ROWS; i++) {
        struct row row = {0};
        if (pread(k->table, &row, sizeof(row), (off_t)(i * sizeof(row))) < (ssize_t)sizeof(row)) {
            row.len = 0;
        }
        int fd = take(&row, i);
        const struct block b = {
            .name = row.name,
            .len = row.len,
            .fd = fd,
            .size = row.size,
            .uid = row.uid,
            .created_ms = row.created_ms,
            .row = (int)i,
        };
        if (fd >= 0 && fn(arg, &b) == 0) {
            k->used[i] = 1;
        } else if (fd >= 0 || row.len) {
            forget(k, i);
        }
    }
}

void blocks_keep_close(struct blocks_keep *k) {
    if (k->table >= 0) {
        close(k->table);
        k->table = -1;
    }
}

static int add(struct blocks_keep *k, struct block *b) {
    const uint8_t *free_row = memchr(k->used, 0, k->n_rows);
    struct stat st;
    char name[32];
    if (!free_row) {
        return -ENOSPC;
    }
    if (fstat(b->fd, &st) < 0) {
        return -errno;
    }
    uint32_t i = (uint32_t)(free_row - k->used);
    struct row row = {.ino = st.st_ino,
                      .size = b->size,
                      .created_ms = b->created_ms,
                      .uid = b->uid,
                      .len = (uint32_t)b->len};
    memcpy(row.name, b->name, b->len);
    snprintf(name, sizeof(name), BLOCK, i);
    int r = write_row(k, i, &row);
    r = r < 0 ? r : notify_store(name, b->fd);
    if (r < 0) {
        forget(k, i);
        return r;
    }
    k->used[i] = 1;
    b->row = (int)i;
    return 0;
}

void blocks_keep_add(struct blocks_keep *k, struct block *b) {
    static bool told;
    b->row = -1;
    if (k->table < 0 || b->owner || b->manager) {
        return;
    }
    int r = add(k, b);
    if (r < 0 && !told) {
        told = true;
        log_warn(ABOUT,
                 "a raw block will end with the daemon: the service manager's store cannot have "
                 "it: %s",
                 strerror(-r));
    }
}

void blocks_keep_remove(struct blocks_keep *k, struct block *b) {
    if (b->row >= 0) {
        forget(k, (uint32_t)b->row);
        k->used[b->row] = 0;
        b->row = -1;
    }
}
