/* SPDX-License-Identifier: MIT */
/* libhearth goes on after a lost connection: the daemon is killed in the middle, its segment is a file, and each callback is
 * called once with the real end. The tasks that the daemon knows of are counted, to see that none was submitted twice. Fails: as
 * a Criterion suite. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/hearth.h"
#include "lib/base/clock.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

enum { N = 300, LIMIT_MS = 30000 };

static struct daemon d;
static struct hearth *h;
static char dir[TMP_PATH], config[1024];

static struct heard {
    int calls;
    bool right;
    enum hearth_status status;
} heard[N];

static void begin(void) {
    cr_assert_eq(tmp_dir(dir), 0);
    snprintf(config, sizeof(config),
             "segment_size = \"64M\";\nsegment_path = \"%s/segment\";\n\n"
             "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 2; retries = 250; "
             "backoff = 0.001; poison = 250; },\n"
             "          { name = \"shell\"; exec = [ ]; workers = 1; } );\n",
             dir);
    const struct daemon_options options = {.config = config, .keep_listening = true};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(hearth_connect(d.socket, &h), 0, "%s", daemon_log(&d));
    cr_assert_eq(hearth_set_reconnect(h, LIMIT_MS), 0);
    memset(heard, 0, sizeof(heard));
}

static void end(void) {
    hearth_close(h);
    h = NULL;
    cr_expect_eq(daemon_stop(&d), 0);
    child_kill_all();
    cr_expect_eq(tmp_remove(dir), 0);
}

TestSuite(resume, .init = begin, .fini = end, .timeout = 60);

static void restart(void) {
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0, "%s",
                 daemon_log(&d)); /* reads what it has notified */
    daemon_kill(&d);
    cr_assert_eq(daemon_restart(&d), 0);
}

static void hear(struct hearth *of, const struct hearth_result *r, void *arg) {
    struct heard *one = arg ? arg : &heard[r->index];
    char text[16];
    (void)of;
    snprintf(text, sizeof(text), "%d", (int)(one - heard));
    one->calls++;
    one->status = r->status;
    one->right = strcmp(r->data, text) == 0;
}

static void submit(int i) {
    static char text[N][16];
    snprintf(text[i], sizeof(text[i]), "%d", i);
    const struct hearth_task t = {
        .pool = "demo", .handler = "echo", .payload = text[i], .payload_len = strlen(text[i])};
    cr_assert_eq(hearth_submit(h, &t, hear, &heard[i], NULL), 0, "%s", hearth_errmsg(h));
}

static uint32_t known(struct wire *w) {
    const char *shown = wire_call(w, "TASK.LIST", "COUNT", "10000", NULL);
    cr_assert_eq(shown[0], '[', "%s: %s", shown, daemon_log(&d));
    return w->doc.v[0].count;
}

/* Each was told its own end, once, and the daemon has had no more tasks than these. */
static void all_told(int n) {
    struct wire w;
    cr_assert_eq(daemon_connect(&d, &w), 0);
    for (int i = 0; i < n; i++) {
        cr_assert_eq(heard[i].calls, 1, "%d: %d", i, heard[i].calls);
        cr_assert_eq(heard[i].status, HEARTH_DONE, "%d: %s", i,
                     hearth_status_name(heard[i].status));
        cr_assert(heard[i].right, "%d", i);
    }
    cr_assert_eq(known(&w), (uint32_t)n, "%u tasks", known(&w));
    const char *shown = wire_call(&w, "SEGMENT.CHECK", NULL);
    cr_assert(strstr(shown, "\"errors\" :0"), "%s", shown);
    wire_close(&w);
}

Test(resume, killed_again_and_again) {
    for (int i = 0; i < N; i++) {
        submit(i);
        if (i % 50 == 20) {
            cr_assert_geq(hearth_run(h, 1), 0);
            restart();
        }
        if (i % 7 == 0) {
            (void)hearth_dispatch(h);
        }
    }
    cr_assert_eq(hearth_run(h, LIMIT_MS), 0, "%s", hearth_errmsg(h));
    all_told(N);
}

/* Waits, by another connection, until the daemon knows n tasks. */
static void wait_known(uint32_t n) {
    struct wire w;
    uint64_t until = clock_now() + 10 * NS_PER_SEC;
    cr_assert_eq(daemon_connect(&d, &w), 0);
    do {
        cr_assert(clock_now() < until);
    } while (known(&w) < n);
    wire_close(&w);
}

Test(resume, answers_that_were_never_read) {
    static struct hearth_bytes payloads[100];
    static char text[100][16];
    for (int i = 0; i < 100; i++) {
        snprintf(text[i], sizeof(text[i]), "%d", i);
        payloads[i] = (struct hearth_bytes){text[i], strlen(text[i])};
    }
    const struct hearth_task t = {.pool = "demo", .handler = "echo"};
    cr_assert_eq(hearth_submit_many(h, &t, payloads, 100, hear, NULL, NULL), 0);
    for (int i = 100; i < 200; i++) {
        submit(i);
    }
    cr_assert_eq(hearth_flush(h), 0);
    wait_known(200);
    restart();
    cr_assert_eq(hearth_run(h, LIMIT_MS), 0, "%s", hearth_errmsg(h));
    all_told(200);
}

Test(resume, what_was_never_heard) {
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0);
    kill(d.pid, SIGSTOP);
    for (int i = 0; i < 50; i++) {
        submit(i);
    }
    cr_assert_eq(hearth_flush(h), 0);
    restart();
    cr_assert_eq(hearth_run(h, LIMIT_MS), 0, "%s", hearth_errmsg(h));
    all_told(50);
}

Test(resume, submitted_while_there_is_no_daemon) {
    submit(0);
    cr_assert_eq(hearth_run(h, LIMIT_MS), 0);
    daemon_kill(&d);
    submit(1);
    cr_assert_eq(hearth_dispatch(h), HEARTH_E_DISCONNECTED);
    submit(2);
    cr_assert_eq(hearth_events(h), 0);
    cr_assert_eq(heard[1].calls + heard[2].calls, 0);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(hearth_reconnect(h), 0);
    while (hearth_pending(h) > 0) { /* as an event loop */
        struct pollfd p = {.fd = hearth_get_fd(h), .events = (short)hearth_events(h)};
        cr_assert_eq(poll(&p, 1, 10000), 1);
        cr_assert_eq(hearth_dispatch(h), 0);
    }
    all_told(3);
}

static void cancelled(struct hearth *of, const struct hearth_result *r, void *arg) {
    (void)of;
    *(enum hearth_status *)arg = r->status;
}

Test(resume, a_cancel_that_was_never_heard) {
    enum hearth_status status = HEARTH_DONE;
    uint64_t ticket;
    const struct hearth_task t = {
        .pool = "demo", .handler = "sleep", .args = (const char *const[]){"60000"}, .n_args = 1};
    cr_assert_eq(hearth_submit(h, &t, cancelled, &status, &ticket), 0);
    while (hearth_ticket_id(h, ticket)[0] == 0) {
        cr_assert_eq(hearth_run(h, 10), HEARTH_E_PENDING);
    }
    cr_assert_eq(daemon_wait_ready(&d, 30000), 0);
    kill(d.pid, SIGSTOP);
    cr_assert_eq(hearth_cancel(h, ticket), 0);
    cr_assert_eq(hearth_flush(h), 0);
    restart();
    cr_assert_eq(hearth_run(h, LIMIT_MS), 0);
    cr_assert_eq(status, HEARTH_CANCELLED);
}

Test(resume, when_the_time_is_over) {
    cr_assert_eq(hearth_set_reconnect(h, 100), 0);
    submit(0);
    kill(d.pid, SIGSTOP);
    cr_assert_eq(hearth_flush(h), 0);
    daemon_kill(&d);
    close(d.listen_fd);
    d.listen_fd = -1;
    cr_assert_eq(hearth_run(h, LIMIT_MS), HEARTH_E_DISCONNECTED);
    cr_assert_eq(heard[0].calls, 1);
    cr_assert_eq(heard[0].status, HEARTH_DISCONNECTED);
    cr_assert_eq(hearth_pending(h), 0);
}

/* ---- those that block, in a process of their own ---- */

static int many_calls(void *arg) {
    static const char *const payloads[] = {"a", "b", "c"};
    struct hearth_result r;
    struct hearth *mine;
    const struct hearth_task t = {.pool = "shell",
                                  .handler = "run",
                                  .args = (const char *const[]){"sh", "-c", "cat; sleep 0.02"},
                                  .n_args = 3,
                                  .options = (const char *const[]){"RETRY", "250"},
                                  .n_options = 2};
    if (hearth_connect(arg, &mine) != 0 || hearth_set_reconnect(mine, LIMIT_MS) != 0) {
        return 1;
    }
    for (int i = 0; i < 60; i++) {
        struct hearth_task one = t;
        one.payload = payloads[i % 3];
        one.payload_len = 1;
        if (hearth_call(mine, &one, &r) != 0 || r.status != HEARTH_DONE ||
            strcmp(r.data, payloads[i % 3]) != 0) {
            fprintf(stderr, "call %d: %s %s\n", i, hearth_status_name(r.status),
                    hearth_errmsg(mine));
            return 2;
        }
    }
    hearth_close(mine);
    return 0;
}

Test(resume, calls) {
    pid_t pid = child_start(many_calls, d.socket);
    for (int i = 0; i < 5; i++) {
        wait_known((uint32_t)(i * 5 + 1));
        restart();
    }
    int status = child_wait(pid);
    cr_assert_eq(status, 0, "%d: %s", status, daemon_log(&d));
    wait_known(60);
}

static int count_right(void *arg, const struct hearth_result *r) {
    char text[24];
    snprintf(text, sizeof(text), "%zu", r->index);
    *(int *)arg += r->status == HEARTH_DONE && strcmp(r->data, text) == 0;
    return 0;
}

static int one_map(void *arg) {
    static char text[N][16];
    static struct hearth_bytes payloads[N];
    int right = 0;
    struct hearth *mine;
    struct hearth_map m = {.task = {.pool = "shell",
                                    .handler = "run",
                                    .args = (const char *const[]){"cat"},
                                    .n_args = 1,
                                    .options = (const char *const[]){"RETRY", "250"},
                                    .n_options = 2},
                           .payloads = payloads,
                           .n = N,
                           .window = 16,
                           .ordered = 1,
                           .done = count_right,
                           .arg = &right};
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof(text[i]), "%d", i);
        payloads[i] = hearth_text(text[i]);
    }
    if (hearth_connect(arg, &mine) != 0 || hearth_set_reconnect(mine, LIMIT_MS) != 0 ||
        hearth_map(mine, &m) != 0) {
        return 1;
    }
    hearth_close(mine);
    return right == N ? 0 : 2;
}

Test(resume, maps) {
    pid_t pid = child_start(one_map, d.socket);
    for (int i = 0; i < 4; i++) {
        wait_known((uint32_t)(i * 40 + 20));
        restart();
    }
    int status = child_wait(pid);
    cr_assert_eq(status, 0, "%d: %s", status, daemon_log(&d));
    wait_known(N);
}

/* ---- mapped ---- */

Test(resume, a_mapped_client_has_the_same_objects) {
    struct hearth_bytes b;
    cr_assert_eq(hearth_attach(h, 0), 0, "%s", hearth_errmsg(h));
    cr_assert_eq(hearth_dict_set(h, hearth_text("d"), hearth_text("f"), hearth_text("v"), NULL), 0);
    submit(0);
    cr_assert_eq(hearth_flush(h), 0);
    restart();
    int r = hearth_run(h, LIMIT_MS);
    cr_assert_eq(r, 0, "%d %s", r, hearth_errmsg(h));
    cr_assert_eq(hearth_attached(h), 2);
    cr_assert_eq(hearth_dict_get(h, hearth_text("d"), hearth_text("f"), &b), 0);
    cr_assert_eq(b.len, 1);
    cr_assert_eq(memcmp(b.data, "v", 1), 0);
    all_told(1);
}
