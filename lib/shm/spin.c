/* SPDX-License-Identifier: MIT */
/* To be woken from sleep on another CPU takes much longer than what one waits for (`./dev bench limits`). So those who wait look
 * first. How long is learnt: the budget doubles when news came and halves when none did; when it is next to nothing,
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

uint64_t spin_until(struct shm *s, struct spin *b, uint64_t *ret_now) {
    if (b->ns < SHM_SPIN_MAX / 32) {
        if (++b->skipped < 32) {
            return 0;
        }
        b->skipped = 0;
        b->ns = SHM_SPIN_MAX / 8;
    }
    *ret_now = clock_now();
    return yield_may_poll(&s->yield, *ret_now) ? *ret_now + b->ns : 0;
}

void spin_paid(struct spin *b) {
    b->ns = b->ns < SHM_SPIN_MAX / 2 ? b->ns * 2 : SHM_SPIN_MAX;
}

void spin_in_vain(struct spin *b) {
    b->ns /= 2;
}

bool spin_for(struct shm *s, bool (*news)(const void *arg), const void *arg) {
    uint64_t now, until = spin_until(s, &s->sync_spin, &now);
    if (!until) {
        return false;
    }
    do {
        for (int i = 0; i < LOOKS; i++) {
            if (news(arg)) {
                spin_paid(&s->sync_spin);
                return true;
            }
            cpu_pause();
        }
    } while (yield_cpu(&s->yield, &now) && now < until);
    spin_in_vain(&s->sync_spin);
    return false;
}
