/* SPDX-License-Identifier: MIT */
/* SEGMENT.*: the shared segment as a whole.
 *
 * SEGMENT.CHECK is the one command without a bound: it goes through all there is, and everybody who wants to change something
 * in shared memory waits until it is done (a second or so for each gigabyte in use). So it is the administrators'.
 *
 * Fails: replies; -EAGAIN while a lock is busy. */
#include <errno.h>

#include "daemon/log.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "lib/base/clock.h"
#include "lib/shm/check.h"
#include "lib/shm/keys.h"
#include "lib/shm/slot.h"

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
    struct shm_report r;
    if (!roles_check(c, ROLE_ADMIN, "segment.check")) {
        return 0;
    }
    uint64_t began = clock_now();
    int e = shm_check_live(&c->serve->d->shm, &r);
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
