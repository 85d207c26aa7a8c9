/* SPDX-License-Identifier: MIT */
/* Managers: names that belong to them, what is gone when one ends, what can no longer be made, and that nothing is left of
 * it after a sweep. The segment is checked block by block after each. */
#include "lib/shm/manager.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/shm/check.h"
#include "lib/shm/internal.h"
#include "lib/shm/keys.h"
#include "lib/shm/objects.h"
#include "lib/shm/op.h"
#include "lib/shm/slot.h"

TestSuite(manager, .timeout = 60);

static struct shm segment(uint64_t size) {
    struct shm s;
    uint32_t slot, gen;
    cr_assert_eq(shm_create(&s, &(struct shm_params){.size = size, .slots = 4, .tasks = 64}), 0);
    cr_assert_eq(slot_reserve(&s, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(&s, slot, gen), 0);
    return s;
}

static void check(struct shm *s) {
    struct shm_report r;
    cr_assert_eq(shm_check(s, &r), 0);
    cr_assert_eq(r.errors, 0, "%s", r.first);
}

static struct task_bytes in(uint64_t id, const char *rest) {
    static char names[8][64];
    static unsigned turn;
    char *name = names[turn++ % 8];
    manager_prefix(id, name);
    strcat(name, rest);
    return (struct task_bytes){name, strlen(name)};
}

static struct task_bytes text(const char *t) {
    return (struct task_bytes){t, strlen(t)};
}

struct sweep {
    unsigned shard;
    uint64_t cursor;
};

static int sweep_some(struct shm *s, void *arg) {
    struct sweep *w = arg;
    uint64_t cursor = w->cursor;
    int r = keys_expire_some(s, w->shard, 1, &cursor, 32);
    w->cursor = cursor;
    return r;
}

static int sweep(struct shm *s) {
    int gone = 0;
    for (struct sweep w = {0}; w.shard < SHM_SHARDS; w.shard += w.cursor == 0) {
        struct sweep was = w;
        int r = op_run(s, UINT64_C(1) << w.shard, sweep_some, &was);
        cr_assert_geq(r, 0);
        gone += r;
        w.cursor = was.cursor;
    }
    return gone;
}

Test(manager, names) {
    char prefix[MANAGER_PREFIX + 1];
    manager_prefix(UINT64_C(0x123456789abcdef), prefix);
    cr_assert_str_eq(prefix, "@0123456789abcdef:");
    cr_assert_eq(manager_of("@0123456789abcdef:", 18), UINT64_C(0x123456789abcdef));
    cr_assert_eq(manager_of("@0123456789abcdef:x", 19), UINT64_C(0x123456789abcdef));
    cr_assert_neq(manager_of("@0000000000000000:", 18), 0, "nobody's, and not ordinary");
    static const char *const ordinary[] = {"",
                                           "@",
                                           "@0123456789abcdef",
                                           "@0123456789abcdef.x",
                                           "@0123456789abcdeF:x",
                                           "@0123456789abcdeg:x",
                                           "@0123456789abcde:xx",
                                           "#0123456789abcdef:x",
                                           "@0123456789abcde/:x"};
    for (size_t i = 0; i < sizeof(ordinary) / sizeof(ordinary[0]); i++) {
        cr_assert_eq(manager_of(ordinary[i], strlen(ordinary[i])), 0, "%s", ordinary[i]);
    }
}

Test(manager, its_keys_end_with_it_and_no_others) {
    struct shm s = segment(16 << 20);
    struct objects o;
    uint64_t a, b, cursor = 0;
    const struct task_bytes *names;
    struct task_bytes v;
    size_t n;
    objects_init(&o, &s);
    cr_assert_eq(manager_open(&s, &a), 0);
    cr_assert_eq(manager_open(&s, &b), 0);
    cr_assert_neq(a, b);
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "k%d", i);
        cr_assert_eq(objects_value_set(&o, in(a, name), text("of a"), 0, i % 2 ? 100000 : 0), 0);
        cr_assert_gt(
            objects_list_push(&o, in(b, name), OBJECTS_LEFT, &(struct task_bytes){"e", 1}, 1), 0);
    }
    cr_assert_eq(objects_value_set(&o, text("free"), text("1"), 0, 0), 0);
    cr_assert_eq(manager_keys(&s, a), 100);
    check(&s);
    cr_assert_eq(manager_end(&s, a), 0);
    cr_assert_eq(manager_end(&s, a), -ENOENT);
    cr_assert_eq(objects_value_get(&o, in(a, "k1"), &v), -ENOENT);
    cr_assert_eq(objects_exists(&o, in(a, "k2")), 0);
    cr_assert_eq(objects_ttl(&o, in(a, "k1")), -ENOENT);
    cr_assert_eq(objects_value_set(&o, in(a, "k1"), text("late"), 0, 0), -EIDRM);
    cr_assert_eq(objects_value_set(&o, in(a, "new"), text("late"), 0, 0), -EIDRM);
    cr_assert_eq(objects_value_add(&o, in(a, "new"), 1, NULL), -EIDRM);
    cr_assert_eq(objects_rename(&o, text("free"), in(a, "x"), true), -EIDRM);
    cr_assert_eq(objects_rename(&o, in(a, "k1"), text("saved"), true), -ENOENT);
    cr_assert_eq(objects_list_pop_wait(&o, in(a, "l"), OBJECTS_LEFT, -1, &v), -EIDRM);
    cr_assert_eq(objects_value_set(&o, in(a ^ (1 << 20), "k"), text("?"), 0, 0), -EIDRM,
                 "never opened");
    cr_assert_eq(keys_count(&s), 101);
    do {
        cr_assert_eq(objects_keys(&o, &cursor, 1000, NULL, &names, &n), 0);
        for (size_t i = 0; i < n; i++) {
            cr_assert_neq(manager_of(names[i].data, names[i].len), a);
        }
    } while (cursor);
    check(&s);
    struct manager_pass pass;
    manager_pass_begin(&s, &pass);
    cr_assert_eq(sweep(&s), 100);
    cr_assert_not(manager_pass_end(&s, &pass));
    cr_assert_eq(manager_over(&s), 0);
    cr_assert_eq(keys_count(&s), 101);
    cr_assert_eq(manager_keys(&s, b), 100);
    cr_assert_eq(objects_value_set(&o, in(a, "k1"), text("late"), 0, 0), -EIDRM, "for ever");
    check(&s);
    objects_deinit(&o);
    shm_detach(&s);
}

Test(manager, the_name_alone_decides) {
    struct shm s = segment(1 << 20);
    struct objects o;
    uint64_t a;
    struct task_bytes v;
    objects_init(&o, &s);
    cr_assert_eq(manager_open(&s, &a), 0);
    cr_assert_eq(objects_value_set(&o, in(a, "given"), text("1"), 0, 0), 0);
    cr_assert_eq(objects_value_set(&o, text("taken"), text("2"), 0, 0), 0);
    cr_assert_eq(objects_rename(&o, in(a, "given"), text("given"), true), 0);
    cr_assert_eq(objects_rename(&o, text("taken"), in(a, "taken"), true), 0);
    cr_assert_eq(manager_keys(&s, a), 1);
    check(&s);
    cr_assert_eq(manager_end(&s, a), 0);
    cr_assert_eq(objects_value_get(&o, text("given"), &v), 0);
    cr_assert_eq(objects_value_get(&o, in(a, "taken"), &v), -ENOENT);
    cr_assert_eq(keys_count(&s), 1);
    objects_deinit(&o);
    shm_detach(&s);
}

/* The manager ends when the key is made and not yet committed: no lock is in the way of that. */
struct late {
    struct shm *other;
    uint64_t id;
    struct key_name name;
};

static int make_while_it_ends(struct shm *s, void *arg) {
    struct late *l = arg;
    int r = value_set(s, &l->name, "late", 4, false);
    if (r == 0) {
        manager_end(l->other, l->id);
    }
    return r;
}

Test(manager, a_key_finished_after_its_end_is_swept) {
    struct shm s = segment(1 << 20), daemon;
    struct late l = {.other = &daemon};
    struct manager_pass pass, before;
    struct task_bytes v;
    struct objects o;
    objects_init(&o, &s);
    cr_assert_eq(shm_attach(&daemon, s.fd), 0);
    cr_assert_eq(manager_open(&daemon, &l.id), 0);
    manager_pass_begin(&daemon, &before);
    struct task_bytes name = in(l.id, "x");
    l.name = key_name(&s, name.data, name.len);
    cr_assert_eq(op_run(&s, key_shard_bit(&l.name), make_while_it_ends, &l), 0);
    cr_assert_eq(objects_value_get(&o, name, &v), -ENOENT);
    cr_assert_eq(manager_over(&s), 1);
    check(&s);
    cr_assert_not(manager_pass_end(&daemon, &before), "it was open when this pass began");
    cr_assert_eq(manager_over(&s), 1);
    manager_pass_begin(&daemon, &pass);
    pass.missed = true;
    cr_assert(manager_pass_end(&daemon, &pass));
    manager_pass_begin(&daemon, &pass);
    cr_assert(manager_pass_end(&daemon, &pass), "a key is left");
    cr_assert_eq(sweep(&s), 1);
    cr_assert_not(manager_pass_end(&daemon, &pass));
    check(&s);
    objects_deinit(&o);
    shm_detach(&daemon);
    shm_detach(&s);
}

Test(manager, places_are_used_again_after_the_sweep_only) {
    struct shm s = segment(1 << 20);
    uint64_t id[64], more;
    unsigned n = 0;
    struct manager_pass pass;
    struct objects o;
    objects_init(&o, &s);
    while (n < 64 && manager_open(&s, &id[n]) == 0) {
        n++;
    }
    cr_assert_eq(n, 16);
    cr_assert_eq(manager_open(&s, &more), -ENOSPC);
    cr_assert_eq(manager_end(&s, id[5]), 0);
    cr_assert_eq(manager_open(&s, &more), 0, "it had no keys");
    cr_assert_neq(more, id[5]);
    cr_assert_eq(objects_value_set(&o, in(id[3], "k"), text("v"), 0, 0), 0);
    cr_assert_eq(manager_end(&s, id[3]), 0);
    cr_assert_eq(manager_open(&s, &more), -ENOSPC, "it has not been swept");
    manager_pass_begin(&s, &pass);
    cr_assert_eq(sweep(&s), 1);
    cr_assert_not(manager_pass_end(&s, &pass));
    cr_assert_eq(manager_open(&s, &more), 0);
    cr_assert_neq(more, id[3]);
    cr_assert(manager_is_over(&s, id[3]));
    cr_assert(manager_end_all(&s));
    for (unsigned i = 0; i < n; i++) {
        cr_assert(manager_is_over(&s, id[i]));
    }
    objects_deinit(&o);
    shm_detach(&s);
}

static int flush_all(struct shm *s, void *arg) {
    int r = 0;
    (void)arg;
    for (unsigned i = 0; r == 0 && i < SHM_SHARDS; i++) {
        r = keys_flush(s, i);
    }
    return r;
}

Test(manager, a_flush_leaves_it_open_and_empty) {
    struct shm s = segment(16 << 20);
    struct objects o;
    uint64_t id[300];
    objects_init(&o, &s);
    /* more counts in a shard than a small undo log has room for */
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(manager_open(&s, &id[i]), 0);
        for (int k = 0; k < 30; k++) {
            char name[16];
            snprintf(name, sizeof(name), "%d", k);
            cr_assert_eq(objects_value_set(&o, in(id[i], name), text("v"), 0, 0), 0);
        }
    }
    check(&s);
    cr_assert_eq(manager_keys(&s, id[7]), 30);
    cr_assert_eq(op_run(&s, OP_ALL, flush_all, NULL), 0);
    cr_assert_eq(manager_keys(&s, id[7]), 0);
    check(&s);
    cr_assert_eq(objects_value_set(&o, in(id[7], "again"), text("v"), 0, 0), 0);
    cr_assert_eq(manager_keys(&s, id[7]), 1);
    objects_deinit(&o);
    shm_detach(&s);
}
