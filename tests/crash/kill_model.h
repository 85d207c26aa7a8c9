/* SPDX-License-Identifier: MIT */
/* What a process of kill_objects has made of its own keys, as plain memory, and the changes it makes to them. A change is
 * planned on the model first, so that whoever finds its process dead knows what the keys held before and what they would
 * hold after. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm/objects.h"

enum {
    MODEL_PROCESSES = 5,
    MODEL_NAME = 40,      /* bytes of a name */
    MODEL_VALUE = 6000,   /* bytes of the value */
    MODEL_FIELDS = 256,   /* possible fields of the dict, besides its sums */
    MODEL_SUMS = 4,       /* fields that are numbers */
    MODEL_ELEMENTS = 300, /* of a list */
    MODEL_MANY = 6,       /* values that are set and deleted together */
    MODEL_OWN_SHARDS = 56 /* the shard 56 + p is flushed by process p, all else lies below */
};

enum model_name {
    NAME_VALUE,
    NAME_COUNTER,
    NAME_DICT,
    NAME_DICT_MOVED,
    NAME_COPY,
    NAME_LIST,
    NAME_LIST_OTHER,
    NAME_BRIEF,
    NAME_MANY,
    NAME_FLUSH_VALUE = NAME_MANY + MODEL_MANY, /* the three in the process's own shard */
    NAME_FLUSH_DICT,
    NAME_FLUSH_LIST,
    NAME_TOTAL, /* these are everybody's */
    NAME_SHARES,
    NAME_LEFT,
    NAME_QUEUE,
    MODEL_NAMES
};

/* Contents are told by a number that stands at their beginning; 0: absent. */
struct model_dict {
    uint32_t fields[MODEL_FIELDS];
    int64_t sums[MODEL_SUMS];
};
struct model_list {
    uint32_t n;
    uint32_t at[MODEL_ELEMENTS]; /* zero from n on */
};
struct model {
    uint64_t value_len; /* 0: absent */
    unsigned char value[MODEL_VALUE];
    int64_t counter;
    uint64_t dict_moved; /* 1: it has its other name */
    struct model_dict dict, copy;
    struct model_list list[2];
    uint64_t brief, brief_until; /* a value that expires at that wall clock time, ms */
    uint64_t many, flush;
    int64_t shared; /* how often it has added 1 to its field of `shares` and to `total` */
};

/* One change: what was drawn for it. */
struct change {
    uint32_t kind, id;
    uint64_t random;
    uint64_t a, b, n;
    unsigned char bytes[64];
    int64_t r; /* what the call returned, for the message */
};

struct change_kind {
    const char *name;
    /* Draws the change and makes it on the model. */
    void (*plan)(struct model *m, struct change *c);
    /* Makes it on the segment. False: it gave something else than it should. What only the call decides (which field
     * popitem took) is put right in `after`, by one store. */
    bool (*run)(struct objects *o, const struct task_bytes *names, struct change *c,
                const struct model *before, struct model *after);
};

extern const struct change_kind value_kinds[], dict_kinds[], list_kinds[];
extern const uint32_t n_value_kinds, n_dict_kinds, n_list_kinds;

/* ---- kill_model.c ---- */
/* The names of process p's keys in this segment (its hash decides the shards). The bytes are the caller's. */
void model_names(const struct shm *s, int p, char bytes[MODEL_NAMES][MODEL_NAME],
                 struct task_bytes names[MODEL_NAMES]);
uint64_t change_random(struct change *c, uint64_t below);
/* The bytes that belong to a number, of very different sizes: a few, or up to CONTENT_MAX. */
enum { CONTENT_MAX = 3000 };
struct task_bytes content_of(uint32_t id, char buf[CONTENT_MAX]);
/* The number of these bytes; 0: they are not whole. */
uint32_t content_id(struct task_bytes b);
/* Name of field i, and its number; MODEL_FIELDS + i for sum i; -1: none. */
struct task_bytes field_name(uint32_t i, char buf[16]);
int field_index(struct task_bytes b);
bool is_bytes(struct task_bytes b, const void *data, size_t len);

/* Reads the keys of process p (nobody is at work): NULL, or what is wrong in itself. */
const char *model_observe(struct objects *o, const struct task_bytes *names, int p,
                          struct model *ret);
/* NULL, or where `seen` is not as it should be. now_ms: when the keys were read: not before, not after. */
const char *model_differs(const struct model *seen, const struct model *m, uint64_t from_ms,
                          uint64_t to_ms);
