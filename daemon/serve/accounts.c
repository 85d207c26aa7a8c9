/* SPDX-License-Identifier: MIT */
/* Who is connected, by id, and what one connection and one user may cause. Ids count up and are never used
 * twice, so a task's record names its submitter by id, and the submitter's being gone shows as "not
 * found". The table is indexed by the low bits of the id: as ids are given out in order, entries
 * hardly ever share a place.
 *
 * A user's objects are counted in the segment (lib/shm/account.h); here he gets his account when he first connects. Root and
 * the daemon's own user have no limits.
 *
 * Fails: -ENOMEM when it is opened. */
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/serve/conn.h"
#include "daemon/serve/multi.h"
#include "lib/shm/account.h"

enum {
    FLOOD = 16 * 1024 * 1024, /* bytes of buffers after which memory is given back ... */
    EBB = 1024 * 1024,        /* ... when no more than this are left */
};

int accounts_open(struct serve *s) {
    uint32_t size = 64;
    while (size < s->d->config->limits.max_clients) {
        size *= 2;
    }
    s->by_id = calloc(size, sizeof(*s->by_id));
    s->by_id_size = size;
    s->next_id = s->d->last_client + 1;
    account_open(&s->d->shm, getuid(), 0, 0, &s->d->shm.account);
    return s->by_id ? 0 : -ENOMEM;
}

static struct conn **place_of(struct serve *s, uint64_t id) {
    return &s->by_id[id & (s->by_id_size - 1)];
}

/* From limits. */
static bool is_free(uid_t uid) {
    return uid == 0 || uid == getuid();
}

static void charge_to_user(struct conn *c) {
    struct serve *s = c->serve;
    const struct config_limits *l = &s->d->config->limits;
    bool free = is_free(c->uid);
    int r = account_open(&s->d->shm, c->uid, free ? 0 : l->user_memory, free ? 0 : l->user_objects,
                         &c->account);
    if (r < 0 && !s->accounts_full) {
        s->accounts_full = true;
        log_warn(LOG_ABOUT(.message = MESSAGE_ACCOUNTS_FULL),
                 "user %u is one more than there are accounts in the segment: he and further ones "
                 "share the last one, and its limits",
                 (unsigned)c->uid);
    }
}

void accounts_configure(struct serve *s) {
    list_for_each (it, &s->conns) {
        charge_to_user(list_entry(it, struct conn, node));
    }
}

void accounts_add(struct conn *c) {
    struct serve *s = c->serve;
    charge_to_user(c);
    c->user = users_place(s->d->users, c->uid);
    users_at(s->d->users, c->user)->clients++;
    c->id = s->next_id++;
    struct conn **place = place_of(s, c->id);
    c->hash_next = *place;
    *place = c;
    s->n_conns++;
}

void accounts_remove(struct conn *c) {
    struct serve *s = c->serve;
    struct conn **at = place_of(s, c->id);
    while (*at != c) {
        at = &(*at)->hash_next;
    }
    *at = c->hash_next;
    users_at(s->d->users, c->user)->clients--;
    s->n_conns--;
    s->n_own -= c->own;
    s->charged -= c->charged;
    c->charged = 0;
}

struct conn *accounts_find(struct serve *s, uint64_t id) {
    struct conn *c = *place_of(s, id);
    while (c && c->id != id) {
        c = c->hash_next;
    }
    return c;
}

const struct user *accounts_user(const struct conn *c) {
    return users_at(c->serve->d->users, c->user);
}

static int over_quota(struct serve *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int over_quota(struct serve *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->quota, sizeof(s->quota), fmt, ap);
    va_end(ap);
    return -EDQUOT;
}

/* BUSY: it passes by itself. QUOTA: something is to be done. */
int accounts_may_submit(struct conn *c, uint64_t n, uint64_t bytes) {
    struct serve *s = c->serve;
    const struct config_limits *l = &s->d->config->limits;
    const struct user *u = accounts_user(c);
    unsigned uid = (unsigned)c->uid;
    if (l->client_max_tasks && c->live + n > l->client_max_tasks) {
        return over_quota(s,
                          "BUSY this connection has %u tasks that have not ended, the limit is %u",
                          c->live, l->client_max_tasks);
    }
    if (c->user == 0 || is_free(c->uid)) {
        return 0;
    }
    if (l->user_tasks && u->tasks + n > l->user_tasks) {
        return over_quota(s, "BUSY user %u has %u tasks that have not ended, the limit is %u", uid,
                          u->tasks, l->user_tasks);
    }
    if (l->user_task_bytes && u->task_bytes + bytes > l->user_task_bytes) {
        return over_quota(
            s,
            "BUSY user %u has given %llu bytes with tasks that have not ended, the limit is %llu",
            uid, (unsigned long long)u->task_bytes, (unsigned long long)l->user_task_bytes);
    }
    if (l->user_results && u->results >= l->user_results) {
        return over_quota(s,
                          "QUOTA user %u has %u results that nobody has fetched, the limit is %u",
                          uid, u->results, l->user_results);
    }
    return 0;
}

int accounts_may_connect(struct serve *s, uid_t uid) {
    uint32_t max = s->d->config->limits.user_clients, place = users_place(s->d->users, uid);
    uint32_t have = users_at(s->d->users, place)->clients;
    if (max == 0 || place == 0 || is_free(uid) || have < max) {
        return 0;
    }
    return over_quota(s, "QUOTA user %u has %u connections, the limit is %u", (unsigned)uid, have,
                      max);
}

/* Memory that was written to, so a buffer's unused end costs nothing. */
static size_t held_by(const struct conn *c) {
    return c->in.tail + c->out.tail + c->held.tail + multi_bytes(c) +
           c->reader.cap * (sizeof(*c->reader.argv) + sizeof(*c->reader.offsets));
}

void accounts_charge(struct conn *c) {
    if (!c->dead) {
        size_t now = held_by(c);
        c->serve->charged += now - c->charged; /* modulo 2^64 */
        c->charged = now;
    }
}

/* One whole request must always be possible. */
static uint64_t limit_of(const struct serve *s) {
    const struct config_limits *l = &s->d->config->limits;
    return l->clients_memory > l->client_max_input ? l->clients_memory : l->client_max_input;
}

static bool over(const struct serve *s) {
    return s->charged > limit_of(s);
}

void accounts_relieve(struct serve *s) {
    while (over(s)) {
        struct conn *most = NULL;
        list_for_each (it, &s->conns) {
            struct conn *c = list_entry(it, struct conn, node);
            most = !most || c->charged > most->charged ? c : most;
        }
        if (!most) {
            return;
        }
        s->closed_output++;
        conn_kill(most,
                  "the requests and replies of all clients are over %llu bytes, and %zu of them "
                  "are its own",
                  (unsigned long long)limit_of(s), most->charged);
    }
}

void accounts_give_back(struct serve *s) {
    if (s->charged > s->charged_most) {
        s->charged_most = s->charged;
    }
    if (s->charged_most > FLOOD && s->charged < EBB) {
        malloc_trim(0);
        s->charged_most = s->charged;
    }
}

/* Messages of one turn are not counted before its end unless it is done here. Over the limit of
 * all, those who hold more than the average get no more: as each of the others can only come up to
 * it, all together stay within twice the limit. */
static bool has_room(struct conn *c) {
    struct serve *s = c->serve;
    accounts_charge(c);
    return conn_pending(c) + buf_len(&c->held) <= s->d->config->limits.client_max_output &&
           (!over(s) || c->charged <= s->charged / s->n_conns);
}

bool accounts_may_push(struct conn *c) {
    if (c->dead || c->overrun) {
        return false;
    }
    if (has_room(c)) {
        return true;
    }
    c->overrun = true;
    conn_dirty(c);
    return false;
}
