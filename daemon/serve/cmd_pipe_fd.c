/* SPDX-License-Identifier: MIT */
/* PIPE.FD: the two ends of a socketpair(2), handed out as descriptors, each once, to whoever asks for them by a name. The
 * daemon keeps the end that is still to be asked for, for as long as the connection lives that was given the first; it never
 * looks into the socket. These names are no keys.
 *
 * Fails: replies. */
#include "daemon/serve/pipes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"

enum {
    PAIRS_MAX = 256,      /* that wait for their other end to be asked for, ... */
    PAIRS_CONN_MAX = 16,  /* ... of one connection */
    PAIR_NAME_MAX = 1024, /* bytes of a name */
};

bool pipes_end_of(struct conn *c, const struct resp_arg *a, unsigned *ret) {
    if (a->len == 1 && (a->data[0] == '0' || a->data[0] == '1')) {
        *ret = (unsigned)(a->data[0] - '0');
        return true;
    }
    reply_error(c, "ERR the end of a pipe is 0 or 1");
    return false;
}

struct pair {
    struct list node; /* serve.pairs */
    struct conn *by;
    int fd;       /* the end that nobody has asked for yet */
    unsigned end; /* ... which is this one */
    size_t len;
    char name[];
};

void pipes_open(struct serve *s) {
    list_init(&s->pairs);
}

static void pair_free(struct serve *s, struct pair *p) {
    close(p->fd);
    list_del(&p->node);
    p->by->pairs--;
    s->n_pairs--;
    free(p);
}

void pipes_close(struct serve *s) {
    while (!list_empty(&s->pairs)) {
        pair_free(s, list_first(&s->pairs, struct pair, node));
    }
}

void pipes_conn_ends(struct conn *c) {
    list_for_each_safe (it, &c->serve->pairs) {
        struct pair *p = list_entry(it, struct pair, node);
        if (p->by == c) {
            pair_free(c->serve, p);
        }
    }
}

static struct pair *pair_find(struct serve *s, const struct resp_arg *name) {
    list_for_each (it, &s->pairs) {
        struct pair *p = list_entry(it, struct pair, node);
        if (p->len == name->len && memcmp(p->name, name->data, name->len) == 0) {
            return p;
        }
    }
    return NULL;
}

static void pass(struct conn *c, int fd) {
    reply_ok(c);
    output_pass(c, &fd, 1);
}

static void pair_new(struct conn *c, const struct resp_arg *name, unsigned end) {
    struct serve *s = c->serve;
    int fds[2];
    if (s->n_pairs >= PAIRS_MAX || c->pairs >= PAIRS_CONN_MAX) {
        reply_error(c, "BUSY too many pipes wait for their other end to be asked for");
        return;
    }
    struct pair *p = calloc(1, sizeof(*p) + name->len);
    if (!p || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        reply_errorf(c, "ERR no pipe can be made: %s", strerror(errno));
        free(p);
        return;
    }
    p->by = c;
    p->fd = fds[!end];
    p->end = !end;
    p->len = name->len;
    memcpy(p->name, name->data, name->len);
    list_init(&p->node);
    list_append(&s->pairs, &p->node);
    s->n_pairs++;
    c->pairs++;
    pass(c, fds[end]);
    close(fds[end]);
}

int cmd_PIPE_FD(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    unsigned end;
    (void)argc;
    if (!(c->roles & ROLE_WRITE)) {
        roles_refuse(c, "pipe.fd");
        return 0;
    }
    if (!pipes_end_of(c, &argv[2], &end) || !output_can_pass(c, "PIPE.FD")) {
        return 0;
    }
    if (argv[1].len > PAIR_NAME_MAX) {
        reply_errorf(c, "ERR a name of more than %d bytes", PAIR_NAME_MAX);
        return 0;
    }
    struct pair *p = pair_find(c->serve, &argv[1]);
    if (p && p->end != end) {
        reply_error(c, "EXISTS this end has been given out");
    } else if (p) {
        pass(c, p->fd);
        pair_free(c->serve, p);
    } else {
        pair_new(c, &argv[1], end);
    }
    return 0;
}
