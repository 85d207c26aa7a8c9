/* SPDX-License-Identifier: MIT */
/* The plain table beside the dict: what somebody would write who needs a shared table and does not think of death. Its
 * entries lie in the table itself, its keys and values have one size, it never grows: it does less than a dict does in every
 * respect, which is the point of it.
 *
 * The mutex is robust: a dead holder's successor is told, and takes the table as it is.
 *
 * Fails: as objects.h says. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/bench/objects.h"

struct entry {
    uint64_t used;
    char key[KEY_BYTES_16];
    char value[VALUE_BYTES_64];
};

struct plain {
    pthread_mutex_t mutex;
    uint64_t mask;
    size_t bytes;
    _Alignas(64) struct entry entries[];
};

struct plain *plain_new(size_t n) {
    uint64_t places = 16;
    while (places < n * 2) {
        places *= 2;
    }
    size_t bytes = sizeof(struct plain) + places * sizeof(struct entry);
    int fd = memfd_create("plain", MFD_CLOEXEC);
    struct plain *p = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (p == MAP_FAILED) {
        return NULL;
    }
    p->mask = places - 1;
    p->bytes = bytes;
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&p->mutex, &a);
    pthread_mutexattr_destroy(&a);
    return p;
}

void plain_free(struct plain *p) {
    if (p) {
        munmap(p, p->bytes);
    }
}

void plain_lock(struct plain *p) {
    if (pthread_mutex_lock(&p->mutex) == EOWNERDEAD) {
        pthread_mutex_consistent(&p->mutex);
    }
}

void plain_unlock(struct plain *p) {
    pthread_mutex_unlock(&p->mutex);
}

static uint64_t hash_16(const char *key) {
    uint64_t a, b;
    memcpy(&a, key, 8);
    memcpy(&b, key + 8, 8);
    unsigned __int128 r =
        (unsigned __int128)(a ^ UINT64_C(0x8ebc6af09c88c6e3)) * (b ^ UINT64_C(0x589965cc75374cc3));
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

/* The key's place, or the free one where it would go; NULL when it is not there and all are taken. */
static struct entry *find(struct plain *p, const char *key) {
    uint64_t at = hash_16(key);
    for (uint64_t i = 0; i <= p->mask; i++) {
        struct entry *e = &p->entries[(at + i) & p->mask];
        if (!e->used || memcmp(e->key, key, KEY_BYTES_16) == 0) {
            return e;
        }
    }
    return NULL;
}

int plain_get(struct plain *p, const char *key, char value[VALUE_BYTES_64]) {
    plain_lock(p);
    const struct entry *e = find(p, key);
    bool found = e && e->used;
    if (found) {
        memcpy(value, e->value, VALUE_BYTES_64);
    }
    plain_unlock(p);
    return found;
}

int plain_set(struct plain *p, const char *key, const char *value) {
    plain_lock(p);
    struct entry *e = find(p, key);
    int r = e ? !e->used : -ENOSPC;
    if (e) {
        e->used = 1;
        memcpy(e->key, key, KEY_BYTES_16);
        memcpy(e->value, value, VALUE_BYTES_64);
    }
    plain_unlock(p);
    return r;
}
