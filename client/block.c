/* SPDX-License-Identifier: MIT */
/* Raw blocks of memory: the daemon keeps their names and passes descriptors, whatever else this handle has mapped; with one in
 * hand nobody is asked any more. A block cannot change its size (it is sealed), so a mapping of it is safe to touch for ever.
 *
 * Fails: as hearth.h says. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/object.h"

int hearth_block_create(struct hearth *h, struct hearth_bytes name, uint64_t size, unsigned flags,
                        int *ret_fd) {
    struct digits d;
    const struct hearth_reply *reply;
    struct hearth_bytes words[5] = {hearth_text("BLOCK.CREATE"), name,
                                    object_number(&d, (int64_t)size)};
    size_t n = 3;
    if (size > INT64_MAX || flags & ~(unsigned)HEARTH_BLOCK_OWNED) {
        return object_invalid(h);
    }
    if (flags & HEARTH_BLOCK_OWNED) {
        words[n++] = hearth_text("OWNED");
    }
    if (!ret_fd) {
        return object_ask(h, &reply, words, n);
    }
    words[n++] = hearth_text("OPEN");
    return object_ask_fd(h, &reply, ret_fd, words, n);
}

int hearth_block_open(struct hearth *h, struct hearth_bytes name, int readonly, int *ret_fd,
                      uint64_t *ret_size) {
    const struct hearth_bytes words[] = {hearth_text("BLOCK.OPEN"), name, hearth_text("READONLY")};
    const struct hearth_reply *reply;
    int r = object_ask_fd(h, &reply, ret_fd, words, readonly ? 3 : 2);
    if (r == 0 && ret_size) {
        *ret_size = (uint64_t)hearth_reply_int(hearth_reply_get(reply, "size"));
    }
    return r;
}

int hearth_block_unlink(struct hearth *h, struct hearth_bytes name) {
    uint64_t n = 0;
    int r = object_ask_count(h, &n, WORDS(hearth_text("BLOCK.UNLINK"), name));
    return r == 0 && n == 0 ? result_say(h, HEARTH_E_ABSENT, "no such block") : r;
}

int hearth_block_map(int fd, int readonly, void **ret, uint64_t *ret_size) {
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    void *at = mmap(NULL, (size_t)st.st_size, readonly ? PROT_READ : PROT_READ | PROT_WRITE,
                    MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return -errno;
    }
    *ret = at;
    if (ret_size) {
        *ret_size = (uint64_t)st.st_size;
    }
    return 0;
}

int hearth_block_unmap(void *at, uint64_t size) {
    return munmap(at, (size_t)size) < 0 ? -errno : 0;
}
