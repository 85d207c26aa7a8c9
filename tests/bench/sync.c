/* SPDX-License-Identifier: MIT */
/* The benchmark `sync`: the synchronisation objects, mapped, beside what the C library and the kernel offer.
 *
 * Fails: exit status 1 when something does not work; a goal missed is printed and is no failure. */
#include "tests/bench/sync.h"

#include "lib/shm/slot.h"
#include "tests/bench/bench.h"
#include "tests/support/child.h"

int sync_bench_open(struct sync_bench *b) {
    struct shm_params params = {.size = 64 << 20, .slots = 8, .tasks = 64};
    int r = shm_create(&b->shm[0], &params);
    for (int i = 0; r == 0 && i < SYNC_BENCH_HANDLES; i++) {
        uint32_t slot, gen;
        if (i > 0) {
            shm_share(&b->shm[0], &b->shm[i]);
        }
        r = slot_reserve(&b->shm[0], 0, &slot, &gen);
        r = r ? r : slot_attach(&b->shm[i], slot, gen);
        objects_init(&b->objects[i], &b->shm[i]);
    }
    return r ? bench_failed("making a segment", r) : 0;
}

void sync_bench_close(struct sync_bench *b) {
    for (int i = SYNC_BENCH_HANDLES - 1; i >= 0; i--) {
        objects_deinit(&b->objects[i]);
        shm_detach(&b->shm[i]);
    }
}

int main(void) {
    int r = sync_bench_locks();
    r = r ? r : sync_bench_queue();
    child_kill_all();
    return r ? 1 : 0;
}
