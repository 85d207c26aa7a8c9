/* SPDX-License-Identifier: MIT */
/* Intrusive doubly linked list, circular with a head. A node that is on no list points at itself
 * after list_init(); list_del() leaves it so, hence deleting twice is harmless. Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "lib/base/cleanup.h"

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(l)                                                                               \
    { &(l), &(l) }

static inline void list_init(struct list *l) {
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l) {
    return l->next == l;
}

/* Puts node before pos; with the head as pos this appends. node must be on no list. */
static inline void list_link(struct list *pos, struct list *node) {
    node->prev = pos->prev;
    node->next = pos;
    pos->prev->next = node;
    pos->prev = node;
}

#define list_append(head, node)  list_link((head), (node))
#define list_prepend(head, node) list_link((head)->next, (node))

static inline void list_del(struct list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)

#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
/* The current node may be deleted in the body; no other may. */
#define list_for_each_safe(it, head)                                                               \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                      \
         it = it##_next, it##_next = it->next)
