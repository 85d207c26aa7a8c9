/* SPDX-License-Identifier: MIT */
/* Roles. Names are made numbers once, at the start: asking the system's databases may take long, and the loop must not wait.
 * A peer is who the kernel says it was when it connected: its user, its group and its supplementary groups (SO_PEERCRED,
 * SO_PEERGROUPS), which nobody can give himself.
 *
 * Fails: -ENOMEM; a peer whose groups cannot be had is in none. */
#include "daemon/serve/roles.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/serve/reply.h"
#include "lib/base/cleanup.h"
#include "lib/base/num.h"

struct member {
    bool group;
    uint32_t id;
};

struct roles {
    struct member *members[ROLES];
    uint32_t n[ROLES];
};

/* The configuration was checked: what is no number is a name, and was known then. */
static bool resolve(const char *text, struct member *ret) {
    uint64_t id;
    ret->group = *text == '@';
    const char *name = text + ret->group;
    if (num_u64(name, strlen(name), &id) == 0) {
        ret->id = (uint32_t)id;
        return true;
    }
    const struct group *g = ret->group ? getgrnam(name) : NULL;
    const struct passwd *p = ret->group ? NULL : getpwnam(name);
    ret->id = g ? g->gr_gid : p ? p->pw_uid : 0;
    return g || p;
}

static int load(struct roles *r, enum role role, const struct config_strings *names) {
    r->members[role] = calloc(names->n + 1, sizeof(struct member));
    for (uint32_t i = 0; r->members[role] && i < names->n; i++) {
        r->n[role] += resolve(names->v[i], &r->members[role][r->n[role]]);
    }
    return r->members[role] ? 0 : -ENOMEM;
}

int roles_open(struct serve *s) {
    const struct config *c = s->d->config;
    s->roles = calloc(1, sizeof(*s->roles));
    int r = s->roles ? load(s->roles, ROLE_ADMIN, &c->admin_users) : -ENOMEM;
    r = r < 0 ? r : load(s->roles, ROLE_MAP, &c->map_users);
    return r < 0 ? r : load(s->roles, ROLE_READ, &c->read_users);
}

void roles_close(struct serve *s) {
    if (s->roles) {
        for (int i = 0; i < ROLES; i++) {
            free(s->roles->members[i]);
        }
        free(s->roles);
        s->roles = NULL;
    }
}

static bool in_group(const struct conn *c, uint32_t id) {
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.gid == id) {
        return true;
    }
    gid_t none;
    len = 0;
    if (getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, &none, &len) == 0 || errno != ERANGE) {
        return false; /* it has none */
    }
    _cleanup_free_ gid_t *groups = malloc(len);
    if (!groups || getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0) {
        return false;
    }
    for (size_t i = 0; i < len / sizeof(*groups); i++) {
        if (groups[i] == id) {
            return true;
        }
    }
    return false;
}

bool roles_may(const struct conn *c, enum role role) {
    const struct roles *r = c->serve->roles;
    bool may = c->uid == 0 || c->uid == getuid();
    for (uint32_t i = 0; !may && i < r->n[role]; i++) {
        const struct member *m = &r->members[role][i];
        may = m->group ? in_group(c, m->id) : m->id == c->uid;
    }
    return may;
}

bool roles_check(struct conn *c, enum role role, const char *what) {
    if (roles_may(c, role)) {
        return true;
    }
    reply_errorf(c, "NOPERM user %u has no permission to run the '%s' command", (unsigned)c->uid,
                 what);
    return false;
}
