/* SPDX-License-Identifier: MIT */
/* Roles. Names are made numbers once, when a configuration is put in force: asking the system's databases may take long, and the loop must not wait.
 * A peer is who the kernel says it was when it connected: its user, its group and its supplementary groups (SO_PEERCRED,
 * SO_PEERGROUPS), which nobody can give himself. What he may do is found once, when he connects: from then on a command costs one
 * AND of its flags (dispatch.c), also in MULTI, whose commands are looked at as they are queued.
 *
 * Fails: -ENOMEM; a peer whose groups cannot be had is in none. */
#include "daemon/serve/roles.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/serve/reply.h"
#include "lib/base/num.h"

struct member {
    bool all, group;
    uint32_t id;
};

struct members {
    struct member *v;
    uint32_t n;
};

enum { READ, WRITE, ADMIN, MAP, MAP_READ, PROC, LISTS };
static const uint32_t role_of[LISTS] = {ROLE_READ, ROLE_WRITE,    ROLE_ADMIN,
                                        ROLE_MAP,  ROLE_MAP_READ, ROLE_PROC};

struct roles {
    struct members lists[LISTS];
    struct members *pools, *workers; /* by pool: who may submit to it, who may work for it */
    uint32_t n_pools;
};

/* The configuration was checked: what is no number is a name, and was known then. */
static bool resolve(const char *text, struct member *ret) {
    uint64_t id;
    *ret = (struct member){.all = strcmp(text, "*") == 0, .group = *text == '@'};
    const char *name = text + ret->group;
    if (ret->all) {
        return true;
    }
    if (num_u64(name, strlen(name), &id) == 0) {
        ret->id = (uint32_t)id;
        return true;
    }
    const struct group *g = ret->group ? getgrnam(name) : NULL;
    const struct passwd *p = ret->group ? NULL : getpwnam(name);
    ret->id = g ? g->gr_gid : p ? p->pw_uid : 0;
    return g || p;
}

static int load(struct members *to, const struct config_strings *names) {
    to->v = calloc(names->n + 1, sizeof(*to->v));
    for (uint32_t i = 0; to->v && i < names->n; i++) {
        to->n += resolve(names->v[i], &to->v[to->n]);
    }
    return to->v ? 0 : -ENOMEM;
}

static struct roles *roles_free(struct roles *r) {
    if (r) {
        for (int i = 0; i < LISTS; i++) {
            free(r->lists[i].v);
        }
        for (uint32_t i = 0; i < r->n_pools; i++) {
            free(r->pools[i].v);
            free(r->workers[i].v);
        }
        free(r->pools);
        free(r->workers);
        free(r);
    }
    return NULL;
}

/* What the configuration says of a pool; NULL: nothing, it is being removed. */
static const struct pool_config *part_of(const struct config *c, const struct pool *p) {
    for (uint32_t i = 0; i < c->n_pools; i++) {
        if (strcmp(c->pools[i].name, p->config->name) == 0) {
            return &c->pools[i];
        }
    }
    return NULL;
}

static int roles_make(struct hearthd *d, const struct config *c, struct roles **ret) {
    const struct config_strings *names[LISTS] = {&c->read_users,     &c->write_users,
                                                 &c->admin_users,    &c->map_users,
                                                 &c->map_read_users, &c->proc_users};
    static char *nobody;
    static const struct config_strings none = {.v = &nobody};
    struct roles *made = calloc(1, sizeof(*made));
    if (!made) {
        return -ENOMEM;
    }
    made->pools = calloc(d->n_pools + 1, sizeof(struct members));
    made->workers = calloc(d->n_pools + 1, sizeof(struct members));
    int r = made->pools && made->workers ? 0 : -ENOMEM;
    for (int i = 0; r == 0 && i < LISTS; i++) {
        r = load(&made->lists[i], names[i]);
    }
    for (uint32_t i = 0; r == 0 && i < d->n_pools; i++) {
        made->n_pools++;
        const struct pool_config *p = part_of(c, &d->pools[i]);
        r = load(&made->pools[i], p ? &p->submit_users : &none);
        r = r < 0 ? r : load(&made->workers[i], p ? &p->worker_users : &none);
    }
    if (r < 0) {
        roles_free(made);
        return r;
    }
    *ret = made;
    return 0;
}

int roles_open(struct serve *s) {
    return roles_make(s->d, s->d->config, &s->roles);
}

int roles_prepare(struct serve *s, const struct config *next) {
    s->roles_next = roles_free(s->roles_next);
    return roles_make(s->d, next, &s->roles_next);
}

void roles_configure(struct serve *s) {
    roles_free(s->roles);
    s->roles = s->roles_next;
    s->roles_next = NULL;
    list_for_each (it, &s->conns) {
        struct conn *c = list_entry(it, struct conn, node);
        struct ucred peer = {.gid = (gid_t)-1};
        socklen_t len = sizeof(peer);
        if (!c->dead) {
            getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
            roles_grant(c, peer.gid);
        }
    }
}

void roles_close(struct serve *s) {
    s->roles = roles_free(s->roles);
    s->roles_next = roles_free(s->roles_next);
}

/* Who a peer is, as far as it has been asked for. */
struct peer_ids {
    const struct conn *c;
    gid_t gid;
    bool known; /* the supplementary groups are here */
    gid_t *groups;
    size_t n;
};

static void ask_groups(struct peer_ids *p) {
    gid_t none;
    socklen_t len = 0;
    p->known = true;
    if (getsockopt(p->c->fd, SOL_SOCKET, SO_PEERGROUPS, &none, &len) == 0 || errno != ERANGE) {
        return; /* it has none */
    }
    p->groups = malloc(len);
    if (p->groups && getsockopt(p->c->fd, SOL_SOCKET, SO_PEERGROUPS, p->groups, &len) == 0) {
        p->n = len / sizeof(*p->groups);
    }
}

static bool in_group(struct peer_ids *p, uint32_t id) {
    if (!p->known) {
        ask_groups(p);
    }
    bool is = p->gid == id;
    for (size_t i = 0; !is && i < p->n; i++) {
        is = p->groups[i] == id;
    }
    return is;
}

static bool is_among(struct peer_ids *p, const struct members *list) {
    bool is = false;
    for (uint32_t i = 0; !is && i < list->n; i++) {
        const struct member *m = &list->v[i];
        is = m->all || (m->group ? in_group(p, m->id) : m->id == p->c->uid);
    }
    return is;
}

void roles_grant(struct conn *c, gid_t gid) {
    const struct roles *r = c->serve->roles;
    struct peer_ids p = {.c = c, .gid = gid};
    bool all = c->uid == 0 || c->uid == getuid();
    c->roles = 0;
    c->may_submit = 0;
    c->may_work = 0;
    for (int i = 0; i < LISTS; i++) {
        c->roles |= all || is_among(&p, &r->lists[i]) ? role_of[i] : 0;
    }
    for (uint32_t i = 0; i < r->n_pools; i++) {
        c->may_submit |= (uint64_t)(all || is_among(&p, &r->pools[i])) << i;
        c->may_work |= (uint64_t)(all || is_among(&p, &r->workers[i])) << i;
    }
    c->roles |= c->roles & ROLE_MAP ? ROLE_READ | ROLE_WRITE : 0;
    c->roles |= c->roles & ROLE_MAP_READ ? ROLE_READ : 0;
    /* without a pool at all, a submission is answered with that */
    c->roles |= c->may_submit || r->n_pools == 0 ? ROLE_SUBMIT : 0;
    free(p.groups);
}

void roles_refuse(struct conn *c, const char *command) {
    char name[64];
    size_t n = 0;
    for (; n < sizeof(name) - 1 && command[n]; n++) {
        name[n] = (char)tolower((unsigned char)command[n]);
    }
    name[n] = '\0';
    reply_errorf(c, "NOPERM User %u has no permissions to run the '%s' command", (unsigned)c->uid,
                 name);
}
