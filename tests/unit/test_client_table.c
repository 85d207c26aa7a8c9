/* SPDX-License-Identifier: MIT */
/* The table of outstanding tasks against a plain model, with many tasks and much coming and going.
 */
#include "client/table.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 5000 };

TestSuite(client_table, .timeout = 20);

struct model {
    struct task *task;
    uint64_t ticket;
    char id[32];
};

static void check(const struct table *t, const struct model *m) {
    if (m->id[0]) {
        cr_assert_eq(table_find(t, m->id, strlen(m->id)), m->task);
    }
    cr_assert_eq(table_by_ticket(t, m->ticket), m->task);
}

Test(client_table, finds_what_is_there_and_nothing_else) {
    struct table t = {0};
    static struct model model[N];
    size_t used = 0;
    unsigned seed = 12345;
    for (unsigned step = 0; step < 200000; step++) {
        struct model *m = &model[rand_r(&seed) % N];
        if (!m->task) {
            cr_assert_eq(table_by_ticket(&t, m->ticket),
                         NULL); /* an old ticket finds no stranger */
            m->task = table_new(&t);
            cr_assert_not_null(m->task);
            m->ticket = table_ticket(m->task);
            m->id[0] = 0;
            used++;
        } else if (!m->id[0]) {
            snprintf(m->id, sizeof(m->id), "5f3a9c1e2b7-%x", step);
            table_name(&t, m->task, m->id, strlen(m->id));
        } else {
            check(&t, m);
            table_free(&t, m->task);
            cr_assert_null(table_find(&t, m->id, strlen(m->id)));
            m->task = NULL;
            used--;
        }
        cr_assert_eq(t.pending, used);
    }
    size_t walked = 0;
    for (struct task *task = table_from(&t, 0); task; task = table_from(&t, task->slot + 1)) {
        walked++;
    }
    cr_assert_eq(walked, used);
    for (size_t i = 0; i < N; i++) {
        if (model[i].task) {
            check(&t, &model[i]);
        }
    }
    cr_assert_null(table_find(&t, "", 0));
    cr_assert_null(table_by_ticket(&t, 0));
    table_deinit(&t);
}
