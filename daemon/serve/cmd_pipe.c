/* SPDX-License-Identifier: MIT */
/* PIPE.*: pipes that carry messages between their ends, and are waited for as queues are (cmd_queue.c).
 *
 * Fails: replies; the errnos of lib/shm. */
#include <errno.h>

#include "daemon/serve/cmd_sync.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/object.h"
#include "daemon/serve/pipes.h"
#include "daemon/serve/reply.h"
#include "lib/shm/pipe.h"

int cmd_PIPE_CREATE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct key_name name = object_name(c, &argv[1]);
    struct pipe_params p = {0};
    for (uint32_t i = 2; i < argc; i++) {
        if (resp_is(&argv[i], "DUPLEX")) {
            p.duplex = true;
        } else if (i + 1 < argc && resp_is(&argv[i], "BUFFER")) {
            if (!sync_count(c, &argv[++i], &p.buffer)) {
                return 0;
            }
        } else {
            reply_syntax(c);
            return 0;
        }
    }
    int r = pipe_create(object_shm(c), &name, &p);
    if (r >= 0) {
        reply_int(c, r);
    }
    return r < 0 ? r : 0;
}

static int change_end(struct conn *c, const struct resp_arg *argv,
                      int (*fn)(struct shm *s, const struct key_name *name, unsigned end)) {
    struct key_name name = object_name(c, &argv[1]);
    unsigned end;
    if (!pipes_end_of(c, &argv[2], &end)) {
        return 0;
    }
    int r = fn(object_shm(c), &name, end);
    if (r >= 0) {
        reply_ok(c);
    }
    return r < 0 ? r : 0;
}

int cmd_PIPE_OPEN(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return change_end(c, argv, pipe_open);
}

int cmd_PIPE_CLOSE(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    return change_end(c, argv, pipe_close);
}

/* ---- messages ---- */

struct transfer {
    struct conn *c;
    struct key_name name;
    unsigned end;
    struct task_bytes message; /* to be sent */
};

/* The words from `from` on are about waiting. */
static int transfer(struct conn *c, const struct resp_arg *argv, uint32_t argc, uint32_t from,
                    struct sync_do what) {
    struct transfer t = {.c = c, .name = object_name(c, &argv[1])};
    if (!pipes_end_of(c, &argv[2], &t.end)) {
        return 0;
    }
    if (from > 3) {
        t.message = (struct task_bytes){argv[3].data, argv[3].len};
    }
    what.shards = key_shard_bit(&t.name);
    what.arg = &t;
    what.again = true;
    return sync_wait_words(c, argv + from, argc - from, false, what);
}

static int send_inside(struct shm *s, void *arg, unsigned flags) {
    const struct transfer *t = arg;
    return pipe_send(s, &t->name, t->end, t->message.data, t->message.len, flags);
}

int cmd_PIPE_SEND(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return transfer(c, argv, argc, 4, (struct sync_do){.run = send_inside, .say = sync_say_ok});
}

static int take_message(void *arg, const void *data, size_t len) {
    struct conn *c = arg;
    if (c->muted) {
        return 0;
    }
    if (buf_len(&c->out) + len >= c->serve->out_max) {
        return -EMSGSIZE; /* the connection would be closed, and the message be lost */
    }
    return resp_put_bulk(&c->out, data, len);
}

static int recv_inside(struct shm *s, void *arg, unsigned flags) {
    const struct transfer *t = arg;
    return pipe_recv(s, &t->name, t->end, flags, take_message, t->c);
}

int cmd_PIPE_RECV(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return transfer(c, argv, argc, 3, (struct sync_do){.run = recv_inside});
}

static int poll_inside(struct shm *s, void *arg, unsigned flags) {
    const struct transfer *t = arg;
    return pipe_poll(s, &t->name, t->end, flags);
}

static void say_one(struct conn *c, int answer) {
    (void)answer;
    reply_int(c, 1);
}

int cmd_PIPE_POLL(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    return transfer(c, argv, argc, 3,
                    (struct sync_do){.run = poll_inside, .say = say_one, .late = LATE_ZERO});
}

int cmd_PIPE_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    struct key_name name = object_name(c, &argv[1]);
    struct pipe_view v;
    int r = pipe_view(object_shm(c), &name, &v);
    if (r < 0) {
        return r;
    }
    reply_map(c, 3);
    reply_field_int(c, "duplex", v.duplex);
    reply_field_int(c, "buffer", (int64_t)v.buffer);
    reply_text(c, "ends");
    reply_array(c, 2);
    for (int i = 0; i < 2; i++) {
        reply_map(c, 4);
        reply_field_int(c, "holders", (int64_t)v.end[i].holders);
        reply_field_int(c, "held", v.end[i].held);
        reply_field_int(c, "messages", (int64_t)v.end[i].messages);
        reply_field_int(c, "bytes", (int64_t)v.end[i].bytes);
    }
    return 0;
}
