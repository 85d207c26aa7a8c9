/* SPDX-License-Identifier: MIT */
/* SEGMENT.*: the shared segment as a whole.
 *
 * SEGMENT.CHECK is the one command without a bound: it goes through all there is, and everybody who wants to change something
 * in shared memory waits until it is done (a second or so for each gigabyte in use). So it is the administrators'.
 *
 * SEGMENT.ATTACH passes descriptors beside its reply (output_pass()). A descriptor for reading only is a new opening of the
 * memfd, whose mode lets nobody but the daemon's user open it anew.
 *
 * Fails: replies; -EAGAIN while a lock is busy. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/mapped.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/shm/check.h"
#include "lib/shm/keys.h"
#include "lib/shm/slot.h"

enum {
    CHECK_PATIENCE_NS = 2000000
}; /* for each lock; it is held for microseconds unless its owner is stopped */

int cmd_SEGMENT_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    struct shm *s = &c->serve->d->shm;
    struct shm_usage u;
    uint32_t used = 0;
    shm_usage(s, &u);
    for (uint32_t i = 0; i < u.slots; i++) {
        struct slot_view v;
        slot_view(s, i, &v);
        used += v.state != SLOT_FREE;
    }
    reply_map(c, 8);
    reply_field_int(c, "size_bytes", (int64_t)u.size);
    reply_field_int(c, "data_bytes", (int64_t)(u.chunks * u.chunk_bytes));
    reply_field_int(c, "free_bytes", (int64_t)(u.chunks_free * u.chunk_bytes));
    reply_field_int(c, "keys", (int64_t)keys_count(s));
    reply_field_int(c, "keys_expiring", (int64_t)keys_expiring(s));
    reply_field_int(c, "task_records", u.tasks);
    reply_field_int(c, "slots", u.slots);
    reply_field_int(c, "slots_used", used);
    return 0;
}

int cmd_SEGMENT_CHECK(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    struct shm *s = &c->serve->d->shm;
    struct shm_report r;
    uint64_t began = clock_now(), patience = s->patience_ns;
    /* by trying alone, all locks at once are had only by luck while others work */
    s->patience_ns = CHECK_PATIENCE_NS;
    int e = shm_check_live(s, &r);
    s->patience_ns = patience;
    if (e == -EAGAIN) {
        return e;
    }
    if (e < 0) {
        reply_error(c, e == -ENOMEM ? "OOM no memory for the check" : "ERR the check failed");
        return 0;
    }
    if (r.errors) {
        log_err(LOG_ABOUT(.message = MESSAGE_SEGMENT_DAMAGED), "the segment has %llu errors: %s",
                (unsigned long long)r.errors, r.first);
    }
    reply_map(c, 8);
    reply_field_int(c, "errors", (int64_t)r.errors);
    reply_field_text(c, "first_error", r.first);
    reply_field_int(c, "blocks", (int64_t)r.blocks);
    reply_field_int(c, "block_bytes", (int64_t)r.block_bytes);
    reply_field_int(c, "runs", (int64_t)r.runs);
    reply_field_int(c, "chunks_used", (int64_t)r.chunks_used);
    reply_field_int(c, "dead_slots", r.dead_slots);
    reply_field_int(c, "took_us", (int64_t)((clock_now() - began) / 1000));
    return 0;
}

/* ---- SEGMENT.ATTACH ---- */

static bool can_attach(struct conn *c, bool readonly) {
    if (c->roles & (readonly ? ROLE_MAP | ROLE_MAP_READ : ROLE_MAP)) {
        return output_can_pass(c, "SEGMENT.ATTACH");
    }
    roles_refuse(c, "segment.attach");
    return false;
}

static void attach_reading(struct conn *c) {
    const struct shm *s = &c->serve->d->shm;
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        reply_errorf(c, "ERR the segment cannot be opened for reading: %s", strerror(errno));
        return;
    }
    reply_map(c, 2);
    reply_field_int(c, "daemon", s->me);
    reply_field_int(c, "size", (int64_t)s->size);
    output_pass(c, &fd, 1);
}

int cmd_SEGMENT_ATTACH(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    const struct hearthd *d = c->serve->d;
    bool readonly = argc == 2 && resp_is(&argv[1], "READONLY");
    uint32_t slot = 0, gen = 0;
    if (argc > 2 || (argc == 2 && !readonly)) {
        reply_syntax(c);
        return 0;
    }
    if (!can_attach(c, readonly)) {
        return 0;
    }
    if (readonly) {
        attach_reading(c);
        return 0;
    }
    int r = mapped_add(c, &slot, &gen);
    if (r < 0) {
        reply_errorf(c, "ERR %s",
                     r == -EEXIST   ? "this connection has attached already"
                     : r == -ENOSPC ? "as many clients are attached as may be"
                                    : strerror(-r));
        return 0;
    }
    const int fds[] = {d->shm.fd, d->bell_fd};
    reply_map(c, 4);
    reply_field_int(c, "slot", slot);
    reply_field_int(c, "generation", gen);
    reply_field_int(c, "daemon", d->shm.me);
    reply_field_int(c, "size", (int64_t)d->shm.size);
    output_pass(c, fds, 2);
    return 0;
}
