/* SPDX-License-Identifier: MIT */
/* To be woken from sleep on another CPU takes much longer than what one waits for (`./dev bench limits`). So those who wait for sync
 * objects look first. How long is learnt: the budget doubles when news came and halves when none did; when it is next to nothing,
 * only each 32nd wait tries again. Between looks the CPU is offered to others, and nobody looks while it is wanted by them
 * (yield.h): with more processes than CPUs a wait sleeps at once.
 *
 * Invariant: nothing is changed in the segment, so a looker may be killed at any moment.
 *
 * Fails: does not. */
#include "lib/shm/spin.h"

#include "lib/base/clock.h"
#include "lib/base/cpu.h"
#include "lib/shm/internal.h"

enum { LOOKS = 64 }; /* between two questions for the time */

static bool worth_it(struct shm *s, uint64_t now) {
    if (s->sync_spin_ns < SHM_SPIN_MAX / 32) {
        if (++s->sync_spin_skip < 32) {
            return false;
        }
        s->sync_spin_skip = 0;
        s->sync_spin_ns = SHM_SPIN_MAX / 8;
    }
    return yield_may_poll(&s->yield, now);
}

bool spin_for(struct shm *s, bool (*news)(const void *arg), const void *arg) {
    uint64_t now = clock_now(), until;
    if (!worth_it(s, now)) {
        return false;
    }
    until = now + s->sync_spin_ns;
    do {
        for (int i = 0; i < LOOKS; i++) {
            if (news(arg)) {
                s->sync_spin_ns =
                    s->sync_spin_ns < SHM_SPIN_MAX / 2 ? s->sync_spin_ns * 2 : SHM_SPIN_MAX;
                return true;
            }
            cpu_pause();
        }
    } while (yield_cpu(&s->yield, &now) && now < until);
    s->sync_spin_ns /= 2;
    return false;
}
