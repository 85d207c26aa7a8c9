/* SPDX-License-Identifier: MIT */
/* MANAGER.*: scopes that keys belong to by their names. Which managers are open stands in the segment, where every process
 * looks; whose they are stands here only, so no other process can make itself the owner. A daemon that starts on a kept
 * segment knows no owners any more and ends them all.
 *
 * Ending one waits for nothing. What is left of its keys is swept by the keyspace's timer (keyspace.c).
 *
 * Fails: replies. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/serve/blocks.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/keyspace.h"
#include "daemon/serve/manager.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "lib/base/clock.h"
#include "lib/shm/manager.h"

enum { PER_CLIENT = 64, LIST_FIELDS = 5 };

struct managers {
    uint32_t n; /* open */
    struct {
        uint64_t id; /* 0: none */
        struct conn *conn;
        uint64_t since_ns;
    } at[SHM_MANAGERS];
};

int managers_open(struct serve *s) {
    s->managers = calloc(1, sizeof(*s->managers));
    if (!s->managers) {
        return -ENOMEM;
    }
    if (manager_end_all(&s->d->shm)) {
        keyspace_managers_ended(s);
    }
    return 0;
}

void managers_close(struct serve *s) {
    free(s->managers);
    s->managers = NULL;
}

static void end(struct serve *s, uint32_t i, struct conn *owner) {
    manager_end(&s->d->shm, s->managers->at[i].id);
    blocks_manager_ends(s, s->managers->at[i].id);
    s->managers->at[i].id = 0;
    s->managers->n--;
    owner->managers--;
    keyspace_managers_ended(s);
}

void managers_conn_ends(struct conn *c) {
    struct managers *m = c->serve->managers;
    for (uint32_t i = 0; i < SHM_MANAGERS && c->managers; i++) {
        if (m->at[i].id && m->at[i].conn == c) {
            end(c->serve, i, c);
        }
    }
}

int cmd_MANAGER_OPEN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct managers *m = c->serve->managers;
    char prefix[MANAGER_PREFIX + 1];
    uint64_t id;
    (void)argv;
    (void)argc;
    if (!(c->roles & ROLE_WRITE)) {
        roles_refuse(c, "MANAGER.OPEN");
        return 0;
    }
    if (c->managers >= PER_CLIENT) {
        reply_errorf(c, "ERR this connection has %u managers open, as many as one may have",
                     c->managers);
        return 0;
    }
    if (manager_open(object_shm(c), &id) < 0) {
        reply_error(c, "BUSY as many managers are open as the segment has room for");
        return 0;
    }
    uint32_t i = id % SHM_MANAGERS;
    m->at[i].id = id;
    m->at[i].conn = c;
    m->at[i].since_ns = clock_now();
    m->n++;
    c->managers++;
    manager_prefix(id, prefix);
    reply_text(c, prefix);
    return 0;
}

int cmd_MANAGER_CLOSE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct managers *m = c->serve->managers;
    uint64_t id = argv[1].len == MANAGER_PREFIX ? manager_of(argv[1].data, argv[1].len) : 0;
    uint32_t i = id % SHM_MANAGERS;
    (void)argc;
    if (!id || m->at[i].id != id) {
        reply_error(c, "NOMANAGER no manager with this prefix is open");
        return 0;
    }
    struct conn *owner = m->at[i].conn;
    if (owner != c && !(c->roles & ROLE_ADMIN)) {
        roles_refuse(c, "MANAGER.CLOSE");
        return 0;
    }
    end(c->serve, i, owner);
    reply_ok(c);
    return 0;
}

int cmd_MANAGER_LIST(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    const struct managers *m = c->serve->managers;
    uint64_t now = clock_now();
    (void)argv;
    (void)argc;
    reply_array(c, m->n);
    for (uint32_t i = 0; i < SHM_MANAGERS; i++) {
        char prefix[MANAGER_PREFIX + 1];
        if (!m->at[i].id) {
            continue;
        }
        manager_prefix(m->at[i].id, prefix);
        reply_map(c, LIST_FIELDS);
        reply_field_text(c, "prefix", prefix);
        reply_field_int(c, "client", (int64_t)m->at[i].conn->id);
        reply_field_int(c, "uid", m->at[i].conn->uid);
        reply_field_int(c, "keys", (int64_t)manager_keys(object_shm(c), m->at[i].id));
        reply_field_int(c, "age_ms", (int64_t)((now - m->at[i].since_ns) / NS_PER_MS));
    }
    return 0;
}
