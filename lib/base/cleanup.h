/* SPDX-License-Identifier: MIT */
/* Scope-bound ownership (GNU cleanup attribute). A local that owns something is declared with
 * _cleanup_(); the success path steals the value. Cleanup functions preserve errno. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void cleanup_free(void *p) {
    int saved = errno;
    free(*(void **)p);
    errno = saved;
}

static inline void cleanup_close(int *fd) {
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}

#define _cleanup_free_  _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/* Takes the fd out of an owner: returns it and leaves -1 behind. */
static inline int steal_fd(int *fd) {
    int v = *fd;
    *fd = -1;
    return v;
}

/* Takes the pointer out of an owner: yields it and leaves NULL behind. */
#define steal_ptr(p)                                                                               \
    ({                                                                                             \
        __typeof__(p) _v = (p);                                                                    \
        (p) = NULL;                                                                                \
        _v;                                                                                        \
    })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member)                                                            \
    ((type *)(void *)((char *)(1 ? (ptr) : &((type *)0)->member) - offsetof(type, member)))
