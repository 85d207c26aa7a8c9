/* SPDX-License-Identifier: MIT */
/* A heap of what is to come: the smallest key first, of equal ones the smallest id. Nothing is ever
 * taken out of the middle: whoever owns an entry lets it lie, and passes over it when it comes up;
 * once the heap has grown to twice what was live at the last look, the rest is thrown out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_entry {
    int64_t key;
    uint64_t id; /* of the task; given in order of submission */
    uint32_t idx;
    uint32_t what; /* the owner's */
};

struct heap {
    struct heap_entry *v;
    size_t n, cap;
    size_t filter_at; /* entries at which the dead ones are looked for; <= cap */
    bool (*is_live)(void *arg, const struct heap_entry *e);
    void *arg;
};

void heap_init(struct heap *h, bool (*is_live)(void *arg, const struct heap_entry *e), void *arg);
void heap_deinit(struct heap *h);
/* Room for n live entries in all: as long as there are no more, pushing cannot fail. 0 or -ENOMEM. */
int heap_room(struct heap *h, size_t n);
void heap_push(struct heap *h, const struct heap_entry *e);
/* The first live entry, or NULL; those before it are dropped. Valid until the heap changes. */
const struct heap_entry *heap_first(struct heap *h);
/* Takes the first off; there must be one. */
void heap_pop(struct heap *h);
