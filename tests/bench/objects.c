/* SPDX-License-Identifier: MIT */
/* The benchmark `objects`: dicts, lists and values, mapped, beside a plain table and Python's Manager, and their memory
 * beside redis-server's. Over the socket: socket.c.
 *
 * Mapped means: this process holds a slot of a segment as a worker does, and calls lib/shm/objects.h, which is what handlers
 * and mapped clients call. What is compared is measured in turns within this run.
 *
 * Fails: exit status 1 when something does not work; a goal missed is printed and is no failure. */
#include "tests/bench/objects.h"

#include <stdio.h>
#include <string.h>

#include "lib/shm/slot.h"
#include "tests/bench/bench.h"
#include "tests/support/child.h"

int field_segment_open(struct field_segment *f, uint64_t bytes) {
    struct shm_params params = {.size = bytes, .slots = 8, .tasks = 64};
    uint32_t slot, gen;
    int r = shm_create(&f->shm, &params);
    if (r < 0) {
        return bench_failed("making a segment", r);
    }
    r = slot_reserve(&f->shm, 0, &slot, &gen);
    r = r < 0 ? r : slot_attach(&f->shm, slot, gen);
    if (r < 0) {
        shm_detach(&f->shm);
        return bench_failed("attaching to a segment", r);
    }
    objects_init(&f->objects, &f->shm);
    return 0;
}

void field_segment_close(struct field_segment *f) {
    objects_deinit(&f->objects);
    shm_detach(&f->shm);
}

void field_key(char out[KEY_BYTES_16], uint64_t i) {
    char text[32];
    snprintf(text, sizeof(text), "key:%012llu", (unsigned long long)i);
    memcpy(out, text, KEY_BYTES_16);
}

int main(void) {
    int r = objects_mapped();
    r = r ? r : objects_growth();
    child_kill_all();
    return r ? 1 : 0;
}
