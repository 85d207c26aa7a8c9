/* SPDX-License-Identifier: MIT */
/* The cast, and what is asked of every case. What the victim's operation leads to is found out beforehand, in copies: one in which he
 * dies before it, one in which he dies behind it; everything is written down as text and compared.
 *
 * Fails: by lines of step.h; asserts that a case can be set up. */
#include "tests/crash/cast.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/shm/internal.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"
#include "tests/crash/step.h"

enum { SLEEPER = 3, RESCUES = 3 };

static const struct cast *cast;
static const struct cast_case *current;
static struct buf before, after;
static uint32_t who[CAST_PEOPLE], bell;

/* ---- acting ---- */

static int64_t act(void *base, const struct cast_act *a) {
    bool slot = a->who == CAST_ME || a->who == CAST_SLOT;
    struct shm s = step_handle(base, a->who == CAST_ME     ? STEP_VICTIM
                                     : a->who == CAST_SLOT ? SLEEPER
                                                           : STEP_SUPERVISOR);
    if (a->verb == CAST_BURY) {
        int r = sync_seat_end(&s, who[a->who]);
        return r ? r : sync_seat_take(&s, a->who, 1, 0, &who[a->who]);
    }
    return cast->act(&s, slot ? 0 : who[a->who], a);
}

/* The operation, by the victim: some cases end others. */
static int64_t run_op(struct shm *s) {
    const struct cast_act *a = &current->op;
    if (a->verb != CAST_BURY) {
        return cast->act(s, 0, a);
    }
    return a->who == CAST_SLOT ? slot_bury(s, SLEEPER, get32(&s->slots[SLEEPER].gen))
                               : sync_seat_end(s, who[a->who]);
}

/* ---- everything, as text ---- */

static void dump_party(struct buf *b, const struct shm_party *p) {
    uint64_t v = get(&p->state);
    if (get(&p->object)) {
        buf_printf(b, " %s %u %u %d x%llu\n",
                   party_state(v) == PARTY_WAITS ? "waits for" : "is answered by", party_kind(v),
                   party_mode(v), party_answer(v), (unsigned long long)get(&p->count));
    } else {
        buf_printf(b, " idle\n");
    }
}

static int in_dump(struct shm *s, void *arg) {
    struct buf *b = arg;
    for (unsigned i = 1; i < CAST_PEOPLE; i++) {
        buf_printf(b, "%u", i);
        dump_party(b, &sync_seat(s, who[i])->waiting);
    }
    cast->dump(s, b);
    return 0;
}

static void dump(struct shm *s, struct buf *ret) {
    buf_deinit(ret);
    int r = op_run(s, OP_ALL, in_dump, ret);
    assert(r == 0);
    buf_append(ret, "", 1);
}

static bool same(const struct buf *a, const struct buf *b) {
    return buf_len(a) == buf_len(b) && memcmp(buf_head(a), buf_head(b), buf_len(a)) == 0;
}

/* ---- who is told ---- */

static bool is_told(struct shm *s, unsigned i) {
    uint32_t seat = owner_slot(who[i]);
    if (i == CAST_SLOT) {
        return get32(&s->seats[seat].bell) != bell;
    }
    return s->head->granted && get(&s->granted[seat / 64]) >> (seat % 64) & 1;
}

static const char *all_told(struct shm *s) {
    for (unsigned i = 1; i < CAST_PEOPLE; i++) {
        const struct shm_party *p = &sync_seat(s, who[i])->waiting;
        if (get(&p->object) && party_state(get(&p->state)) == PARTY_ANSWERED && !is_told(s, i)) {
            return "one who has an answer sleeps";
        }
    }
    return NULL;
}

/* What they were told before does not count. */
static void forget_told(struct shm *s) {
    for (uint64_t conn; sync_next_granted(s, &conn);) {
    }
    bell = get32(&s->seats[SLEEPER].bell);
}

/* ---- a case ---- */

static void must(bool fine, int64_t r, const char *what) {
    if (!fine) {
        printf("# %s: %s: %lld\n", current->name, what, (long long)r);
    }
    assert(fine);
}

/* How all is when the victim has died before the operation, or behind it. */
static void foresee(const struct shm *s, bool done, struct buf *ret) {
    struct shm victim = step_foresee(s, STEP_VICTIM);
    struct shm copy = step_handle(victim.base, STEP_SUPERVISOR);
    const char *bad = NULL;
    if (done) {
        int64_t r = run_op(&victim);
        must(cast->may_say(r), r, "the operation");
        bad = all_told(&copy); /* by the operation itself */
    }
    step_mark_dead(&copy, STEP_VICTIM);
    bad = bad ? bad : step_recover(&copy, STEP_VICTIM);
    must(!bad, 0, bad ? bad : "");
    dump(&copy, ret);
}

static void setup(struct shm *s) {
    for (unsigned i = 1; i <= CAST_SEATS; i++) {
        int r = sync_seat_take(s, i, 1, 0, &who[i]);
        assert(r == 0);
    }
    struct shm sleeper = step_handle(s->base, SLEEPER);
    who[CAST_SLOT] = sleeper.me;
    for (int i = 0; i < CAST_PREP && current->prep[i].word; i++) {
        int64_t r = act(s->base, &current->prep[i]);
        must(r >= 0 || r == -EINPROGRESS, r, "an act before it");
    }
    if (current->how & CAST_DEAD) {
        step_mark_dead(s, SLEEPER);
    }
    forget_told(s);
    foresee(s, false, &before);
    foresee(s, true, &after);
}

static void op(struct shm *s) {
    run_op(s);
}

/* Everybody goes, then every object. */
static const char *end_all(struct shm *s) {
    for (unsigned i = 1; i <= CAST_SEATS; i++) {
        if (sync_seat_end(s, who[i])) {
            return "a connection cannot be ended";
        }
    }
    if (!(current->how & CAST_DEAD)) {
        step_mark_dead(s, SLEEPER);
    }
    const char *bad = step_recover(s, SLEEPER);
    bad = bad ? bad : step_check(s, "check after everybody has gone", NULL);
    bad = bad ? bad : cast->judge_end(s, current);
    return bad ? bad : step_remove_all(s);
}

static const char *compare(struct shm *s, bool finished) {
    struct buf now = BUF_INIT;
    const char *bad = NULL;
    dump(s, &now);
    if (!same(&now, &after) && (finished || !same(&now, &before))) {
        bad = finished ? "the operation has no effect" : "neither as before nor as after";
        fprintf(stderr, "# is:\n%s# before:\n%s# after:\n%s", buf_head(&now), buf_head(&before),
                buf_head(&after));
    }
    buf_deinit(&now);
    return bad;
}

static const char *verify(struct shm *s, bool finished) {
    const char *bad = step_recover(s, STEP_VICTIM);
    bad = bad ? bad : step_check(s, "check after recovery", NULL);
    bad = bad ? bad : all_told(s);
    if (!bad && current->how & CAST_AGAIN) {
        bad = run_op(s) ? "it cannot be done again" : all_told(s);
        finished = true;
    }
    bad = bad ? bad : compare(s, finished);
    return bad ? bad : end_all(s);
}

int cast_run(const struct cast *with, const struct cast_case *cases, size_t n, const char *only) {
    cast = with;
    for (size_t i = 0; i < n; i++) {
        current = &cases[i];
        if (!only || strstr(current->name, only)) {
            step_run(&(struct step_case){.name = current->name,
                                         .setup = setup,
                                         .op = op,
                                         .verify = verify,
                                         .rescues = RESCUES});
        }
    }
    buf_deinit(&before);
    buf_deinit(&after);
    return step_end();
}
