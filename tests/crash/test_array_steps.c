/* SPDX-License-Identifier: MIT */
/* Every instruction of every verb that changes arrays: making one, elements, ranges, pins, deleting a pinned one, and the
 * burial of who pins (DESIGN section 4.1). After each death an element is as before or as after, of a range each by itself; who has
 * the array pinned still finds it where it was; every block is accounted for; and once it is deleted and the last pin gone, nothing
 * is left.
 * Fails: prints "not ok" and exits 1. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/shm/alloc.h"
#include "lib/shm/array.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/objects.h"
#include "lib/shm/op.h"
#include "tests/crash/step.h"

enum { N = 10 };

#define T(text) ((struct task_bytes){text, strlen(text)})

static struct array_pin
    other_pin; /* of "a", by STEP_OTHER; in the copies it is at the same offsets */
static uint64_t pin_off;

static union array_number number(int64_t v) {
    return (union array_number){.i = v};
}

/* ---- the operations ---- */

static void act(struct shm *s, int (*fn)(struct objects *o)) {
    struct objects o;
    objects_init(&o, s);
    int r = fn(&o);
    assert(r >= 0);
    objects_deinit(&o);
}

static int do_create(struct objects *o) {
    return objects_array_create(o, T("new"), ARRAY_INT16, 300);
}
static int do_set(struct objects *o) {
    return objects_array_set(o, T("a"), ARRAY_NONE, 3, number(-77));
}
static int do_add(struct objects *o) {
    return objects_array_add(o, T("a"), ARRAY_NONE, 4, number(1000), NULL);
}
static int do_add_double(struct objects *o) {
    return objects_array_add(o, T("d"), ARRAY_NONE, 1, (union array_number){.d = 0.5}, NULL);
}
static int do_cas(struct objects *o) {
    return objects_array_cas(o, T("a"), ARRAY_NONE, 5, number(5), number(55));
}
static int do_fill(struct objects *o) {
    return objects_array_fill(o, T("a"), ARRAY_NONE, 1, N - 2, number(9));
}
static int do_write(struct objects *o) {
    static const int32_t data[N] = {100, 101, 102, 103, 104, 105, 106, 107, 108, 109};
    return objects_array_write(o, T("a"), ARRAY_INT32, 1, N - 2, data + 1);
}
static struct array_pin my_pin;
static int do_pin(struct objects *o) {
    return objects_array_pin(o, T("a"), &my_pin);
}
static int do_unpin(struct objects *o) {
    return objects_array_unpin(o, &my_pin);
}
static int do_delete(struct objects *o) {
    struct task_bytes name = T("a");
    return objects_delete(o, &name, 1) == 1 ? 0 : -ENOENT;
}
static int do_tidy(struct objects *o) {
    struct key_name n = key_name(o->shm, "a", 1);
    int r = op_tidy(o->shm, n.shard);
    return r < 0 ? r : op_tidy(o->shm, n.shard);
}
static int do_bury(struct objects *o) {
    int r;
    while ((r = slot_bury(o->shm, STEP_OTHER, get32(&o->shm->slots[STEP_OTHER].gen))) == 1) {
    }
    return r;
}

static void prepare_deleted(struct shm *s) {
    act(s, do_delete);
}
static void prepare_pinned(struct shm *s) {
    act(s, do_pin);
}
static void prepare_pinned_twice(struct shm *s) {
    act(s, do_pin);
    act(s, do_pin);
}
static void let_go_other(struct shm *s) {
    struct shm other = step_handle(s->base, STEP_OTHER);
    struct objects o;
    struct array_pin pin = other_pin;
    objects_init(&o, &other);
    int r = objects_array_unpin(&o, &pin);
    assert(r == 0);
    objects_deinit(&o);
}
/* The last pin of a deleted array is the victim's. */
static void prepare_last_pin(struct shm *s) {
    act(s, do_pin);
    act(s, do_delete);
    act(s, do_tidy);
    let_go_other(s);
}
static void prepare_dead(struct shm *s) {
    step_mark_dead(s, STEP_OTHER);
}
static void prepare_dead_kept(struct shm *s) {
    act(s, do_delete);
    act(s, do_tidy);
    step_mark_dead(s, STEP_OTHER);
}

enum wanted {
    WHOLE = 0,     /* as before, or as after */
    PARTS = 1,     /* each element by itself */
    OTHER_OUT = 2, /* STEP_OTHER has no pin, or is buried too */
};

static const struct array_case {
    const char *name;
    int (*op)(struct objects *o);
    void (*prepare)(struct shm *s);
    unsigned wanted;
} cases[] = {
    {"create", do_create, NULL, WHOLE},
    {"set", do_set, NULL, WHOLE},
    {"add", do_add, NULL, WHOLE},
    {"add to a double", do_add_double, NULL, WHOLE},
    {"compare and set", do_cas, NULL, WHOLE},
    {"fill", do_fill, NULL, PARTS},
    {"write", do_write, NULL, PARTS},
    {"pin", do_pin, NULL, WHOLE},
    {"pin once more", do_pin, prepare_pinned, WHOLE},
    {"unpin", do_unpin, prepare_pinned, WHOLE},
    {"unpin one of two", do_unpin, prepare_pinned_twice, WHOLE},
    {"delete", do_delete, NULL, WHOLE},
    {"delete, pinned by the one who does it", do_delete, prepare_pinned, WHOLE},
    {"taking a pinned one apart", do_tidy, prepare_deleted, WHOLE},
    {"unpin the last one of a deleted array", do_unpin, prepare_last_pin, WHOLE | OTHER_OUT},
    {"burial of who pins", do_bury, prepare_dead, WHOLE | OTHER_OUT},
    {"burial of the last who pins", do_bury, prepare_dead_kept, WHOLE | OTHER_OUT},
};
static const struct array_case *current;

/* ---- the state ---- */

struct state {
    bool there, made;
    int32_t a[N];
    double d[2];
    int16_t fresh[300];
};
static struct state before, after;

static void look(struct shm *s, struct state *ret) {
    struct objects o;
    objects_init(&o, s);
    memset(ret, 0, sizeof(*ret));
    int r = objects_array_read(&o, T("a"), ARRAY_INT32, 0, N, ret->a);
    assert(r == 0 || r == -ENOENT);
    ret->there = r == 0;
    r = objects_array_read(&o, T("d"), ARRAY_DOUBLE, 0, 2, ret->d);
    assert(r == 0);
    r = objects_array_read(&o, T("new"), ARRAY_INT16, 0, 300, ret->fresh);
    assert(r == 0 || r == -ENOENT);
    ret->made = r == 0;
    objects_deinit(&o);
}

static void setup(struct shm *s) {
    struct shm other = step_handle(s->base, STEP_OTHER);
    struct objects o;
    objects_init(&o, s);
    int r = objects_array_create(&o, T("a"), ARRAY_INT32, N);
    assert(r == 1);
    for (int i = 0; i < N; i++) {
        r = objects_array_set(&o, T("a"), ARRAY_NONE, (uint64_t)i, number(i));
        assert(r == 0);
    }
    r = objects_array_create(&o, T("d"), ARRAY_DOUBLE, 2);
    assert(r == 1);
    r = objects_array_set(&o, T("d"), ARRAY_NONE, 1, (union array_number){.d = 1.25});
    assert(r == 0);
    objects_deinit(&o);
    objects_init(&o, &other);
    r = objects_array_pin(&o, T("a"), &other_pin);
    assert(r == 0);
    pin_off = (uint64_t)((uint8_t *)other_pin.data - s->base);
    objects_deinit(&o);
    look(s, &before);
}

/* What the operation makes of it, in a copy whose victim this process plays. */
static void foresee(struct shm *s) {
    struct shm copy = step_foresee(s, STEP_VICTIM);
    if (current->prepare) {
        current->prepare(&copy);
    }
    look(&copy, &before);
    act(&copy, current->op);
    look(&copy, &after);
}

static void setup_case(struct shm *s) {
    setup(s);
    foresee(s);
}

static bool of_either(const struct state *now) {
    if (!(current->wanted & PARTS)) {
        return false;
    }
    for (int i = 0; i < N; i++) {
        if (now->a[i] != before.a[i] && now->a[i] != after.a[i]) {
            return false;
        }
    }
    return now->there;
}

/* Who has it pinned finds what is in it, whether it is deleted or not. */
static const char *judge_pinned(const struct shm *s, const struct state *now) {
    int32_t here[N];
    memcpy(here, s->base + pin_off, sizeof(here));
    for (int i = 0; i < N; i++) {
        if (now->there ? here[i] != now->a[i] : here[i] != i) {
            return "the pinned array is not what it was";
        }
    }
    return NULL;
}

/* All is deleted, and the last pin goes. */
static const char *judge_end(struct shm *s) {
    const struct task_bytes names[] = {T("a"), T("d"), T("new")};
    struct objects o;
    uint64_t blocks;
    objects_init(&o, s);
    int64_t n = objects_delete(&o, names, 3);
    objects_deinit(&o);
    const char *bad = n < 0 ? "the arrays cannot be removed" : step_tidy(s);
    if (!bad && !(current->wanted & OTHER_OUT)) {
        bad = step_check(s, "check after the removal", &blocks);
        if (!bad && blocks < 3) { /* the pool's ring, the array, its holder */
            bad = "what is pinned has been given back";
        }
        let_go_other(s);
    }
    return bad ? bad : step_check_end(s);
}

static const char *verify(struct shm *s, bool finished) {
    struct state now;
    const char *bad = step_recover(s, STEP_VICTIM);
    if (!bad && current->op == do_bury) {
        bad = step_recover(s, STEP_OTHER);
    }
    bad = bad ? bad : step_check(s, "check after recovery", NULL);
    if (bad) {
        return bad;
    }
    look(s, &now);
    if (memcmp(&now, &after, sizeof(now)) != 0 &&
        (finished || (memcmp(&now, &before, sizeof(now)) != 0 && !of_either(&now)))) {
        return finished ? "the operation has no effect" : "neither as before nor as after";
    }
    bad = current->wanted & OTHER_OUT ? NULL : judge_pinned(s, &now);
    return bad ? bad : judge_end(s);
}

static void op(struct shm *s) {
    act(s, current->op);
}

int main(void) {
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        current = &cases[i];
        step_run(&(struct step_case){.name = current->name,
                                     .setup = setup_case,
                                     .prepare = current->prepare,
                                     .op = op,
                                     .verify = verify,
                                     .instructions = i == 2 || i == 3 || i == 4});
    }
    return step_end();
}
