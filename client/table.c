/* SPDX-License-Identifier: MIT */
/* Outstanding tasks. Tickets are slot and generation, so that a ticket kept too long finds nothing
 * rather than a stranger. The id index is an open table with backward-shift deletion: no
 * tombstones, hence no slow decay under a steady stream of insertions and deletions. It is grown
 * when a task is made, not when its id comes: an id that has come cannot be refused for want of
 * memory without losing a task. Invariant: count + unnamed == pending <= cap / 2.
 *
 * Fails: table_new() with NULL; asserts its own counts. */
#include "client/table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256, CAP_MIN = 512 };

static uint32_t hash_id(const char *id, size_t len) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (unsigned char)id[i]) * 16777619u;
    }
    return h ^ h >> 15;
}

void table_deinit(struct table *t) {
    for (uint32_t i = 0; i < t->n_chunks; i++) {
        for (uint32_t k = 0; k < CHUNK; k++) {
            free(t->chunks[i][k].again);
        }
        free(t->chunks[i]);
    }
    free(t->chunks);
    free(t->entries);
    *t = (struct table){0};
}

static void insert(struct table_entry *entries, uint32_t cap, struct task *task) {
    uint32_t i = task->hash & (cap - 1);
    while (entries[i].task) {
        i = (i + 1) & (cap - 1);
    }
    entries[i] = (struct table_entry){task->hash, task};
}

static bool grow_index(struct table *t) {
    uint32_t cap = t->cap ? t->cap * 2 : CAP_MIN;
    struct table_entry *entries = calloc(cap, sizeof(*entries));
    if (!entries) {
        return false;
    }
    for (uint32_t i = 0; i < t->cap; i++) {
        if (t->entries[i].task) {
            insert(entries, cap, t->entries[i].task);
        }
    }
    free(t->entries);
    t->entries = entries;
    t->cap = cap;
    return true;
}

static bool grow_chunks(struct table *t) {
    struct task **chunks = realloc(t->chunks, (t->n_chunks + 1) * sizeof(struct task *));
    if (!chunks) {
        return false;
    }
    t->chunks = chunks;
    struct task *chunk = calloc(CHUNK, sizeof(*chunk));
    if (!chunk) {
        return false;
    }
    for (uint32_t i = CHUNK; i-- > 0;) {
        chunk[i].slot = t->n_chunks * CHUNK + i;
        chunk[i].next = t->free;
        t->free = &chunk[i];
    }
    chunks[t->n_chunks++] = chunk;
    return true;
}

struct task *table_new(struct table *t) {
    if (t->pending + 1 > t->cap / 2 && !grow_index(t)) {
        return NULL;
    }
    if (!t->free && !grow_chunks(t)) {
        return NULL;
    }
    struct task *task = t->free;
    t->free = task->next;
    *task = (struct task){.slot = task->slot, .generation = task->generation + 1, .used = true};
    t->pending++;
    t->unnamed++;
    return task;
}

/* Takes out entry i and moves back those behind it that this brings nearer to their place. */
static void remove_entry(struct table *t, uint32_t i) {
    uint32_t mask = t->cap - 1;
    for (uint32_t j = (i + 1) & mask; t->entries[j].task; j = (j + 1) & mask) {
        uint32_t home = t->entries[j].hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            t->entries[i] = t->entries[j];
            i = j;
        }
    }
    t->entries[i].task = NULL;
    t->count--;
}

void table_free(struct table *t, struct task *task) {
    assert(task->used && t->pending > 0);
    if (task->id[0]) {
        uint32_t i = task->hash & (t->cap - 1);
        while (t->entries[i].task != task) {
            assert(t->entries[i].task);
            i = (i + 1) & (t->cap - 1);
        }
        remove_entry(t, i);
    } else {
        assert(t->unnamed > 0);
        t->unnamed--;
    }
    free(task->again);
    task->again = NULL;
    task->used = false;
    task->id[0] = 0;
    task->next = t->free;
    t->free = task;
    t->pending--;
}

void table_name(struct table *t, struct task *task, const char *id, size_t len) {
    assert(task->used && !task->id[0] && len > 0 && len <= HEARTH_ID_MAX);
    memcpy(task->id, id, len);
    task->id[len] = 0;
    task->hash = hash_id(id, len);
    insert(t->entries, t->cap, task);
    t->count++;
    t->unnamed--;
    assert(t->count + t->unnamed == t->pending);
}

struct task *table_find(const struct table *t, const char *id, size_t len) {
    if (t->count == 0 || len > HEARTH_ID_MAX) {
        return NULL;
    }
    uint32_t hash = hash_id(id, len);
    for (uint32_t i = hash & (t->cap - 1); t->entries[i].task; i = (i + 1) & (t->cap - 1)) {
        struct task *task = t->entries[i].task;
        if (t->entries[i].hash == hash && memcmp(task->id, id, len) == 0 && task->id[len] == 0) {
            return task;
        }
    }
    return NULL;
}

static struct task *at(const struct table *t, uint32_t slot) {
    return &t->chunks[slot / CHUNK][slot % CHUNK];
}

struct task *table_by_ticket(const struct table *t, uint64_t ticket) {
    uint32_t slot = (uint32_t)ticket - 1;
    if (slot >= t->n_chunks * CHUNK) {
        return NULL;
    }
    struct task *task = at(t, slot);
    return task->used && task->generation == ticket >> 32 ? task : NULL;
}

struct task *table_from(const struct table *t, uint32_t from) {
    for (uint32_t i = from; i < t->n_chunks * CHUNK; i++) {
        if (at(t, i)->used) {
            return at(t, i);
        }
    }
    return NULL;
}
