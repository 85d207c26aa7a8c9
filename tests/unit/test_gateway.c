/* SPDX-License-Identifier: MIT */
/* The gateway and the book of tasks from inside, for what a live daemon meets too rarely: a lock in
 * the segment that is held, a table of hints that overflowed, a damaged record, a result forgotten
 * while it is being sent. Segment, book and gateway are the real ones, in this process; the test is
 * the client, over a real socket, and plays the worker with the worker's own verbs. Fails: as a
 * Criterion suite. */
#include "daemon/serve/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/config.h"
#include "daemon/lease.h"
#include "daemon/serve/conn.h"
#include "lib/base/glob.h"
#include "daemon/tasks.h"
#include "lib/base/clock.h"
#include "lib/shm/check.h"
#include "lib/shm/layout.h"
#include "lib/shm/lock.h"
#include "lib/shm/slot.h"
#include "tests/support/tmp.h"
#include "tests/support/wire.h"

static struct hearthd d;
static struct shm worker; /* a second handle on the segment */
static struct worker record_of_worker;
static struct wire w, other;
static char dir[TMP_PATH];
static char *handlers[] = {"run"};
static bool locked;

/* ---- the daemon's loop, as far as it matters here ---- */

static void turn(void) {
    event_base_loop(d.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    tasks_turn(&d);
    serve_turn(&d);
}

static bool readable(const struct wire *c) {
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    return buf_len(&c->in) > c->taken || poll(&p, 1, 0) > 0;
}

static void turns(int ms) {
    for (uint64_t until = clock_now() + (uint64_t)ms * NS_PER_MS; clock_now() < until;) {
        turn();
    }
}

/* The next message for this client, the daemon turning until it is there. */
static const char *hear(struct wire *c) {
    for (uint64_t until = clock_now() + 10 * NS_PER_SEC;;) {
        turn();
        if (readable(c) && wire_read(c, 1) != -ETIMEDOUT) {
            return wire_show(c);
        }
        cr_assert(clock_now() < until, "no reply");
    }
}

/* Sends, the daemon turning while the socket is full. */
static void send_all(struct wire *c, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(c->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        cr_assert(n > 0 || errno == EAGAIN);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        } else {
            turn();
        }
    }
}

static void tell(struct wire *c, const char *line) {
    send_all(c, line, strlen(line));
    send_all(c, "\r\n", 2);
}

static const char *ask(struct wire *c, const char *line) {
    tell(c, line);
    return hear(c);
}

/* A command whose last word is a payload of n bytes; the reply is not read. */
static void tell_bytes(struct wire *c, struct resp_arg *words, uint32_t n_words, size_t n) {
    struct buf b = BUF_INIT;
    char *data = malloc(n);
    memset(data, 'p', n);
    words[n_words - 1] = (struct resp_arg){data, n};
    resp_put_array(&b, n_words);
    for (uint32_t i = 0; i < n_words; i++) {
        resp_put_bulk(&b, words[i].data, words[i].len);
    }
    send_all(c, buf_head(&b), buf_len(&b));
    buf_deinit(&b);
    free(data);
}

static void submit_bytes(struct wire *c, size_t n) {
    struct resp_arg words[4] = {{"TASK.SUBMIT", 11}, {"p", 1}, {"run", 3}};
    tell_bytes(c, words, 4, n);
}

/* Two payloads, the first so small that it needs no lock. */
static void msubmit_two(struct wire *c, size_t second) {
    struct resp_arg words[6] = {{"TASK.MSUBMIT", 12}, {"p", 1}, {"run", 3}, {"2", 1}, {"a", 1}};
    tell_bytes(c, words, 6, second);
}

/* ---- the worker ---- */

static void hold_locks(void) {
    for (int i = 0; i < SHM_ARENAS; i++) {
        cr_assert_eq(lock_take(&worker, &worker.arenas[i].lock), 0);
    }
    cr_assert_eq(lock_take(&worker, &worker.head->chunk_lock), 0);
    locked = true;
}

static void drop_locks(void) {
    lock_drop(&worker, &worker.head->chunk_lock);
    for (int i = 0; i < SHM_ARENAS; i++) {
        lock_drop(&worker, &worker.arenas[i].lock);
    }
    locked = false;
}

/* Runs the next task: a result of n bytes. */
static struct task_ref run_one(size_t n) {
    struct task_ref t;
    void *out;
    cr_assert_eq(task_claim(&worker, 0, &t), 0);
    cr_assert_eq(task_output(&worker, &t, 0, n, &out), 0);
    memset(out, 'r', n);
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT, .output_len = n};
    cr_assert_eq(task_finish(&worker, &t, &o), 0);
    return t;
}

/* ---- opening and closing ---- */

static void begin(const char *more) {
    char text[512];
    struct config_error err;
    uint32_t slot, gen;
    cr_assert_eq(tmp_dir(dir), 0);
    int n = snprintf(text, sizeof(text),
                     "socket = \"%s/s\"; segment_size = \"8M\"; tasks_max = 2048;\n"
                     "pools = ( { name = \"p\"; workers = 1; exec = [ ]; } );\n%s",
                     dir, more);
    cr_assert_eq(config_load_text(text, (size_t)n, "test", &d.config, &err), 0, "%s", err.text);
    struct shm_params params = {
        .size = d.config->segment_size, .slots = 4, .tasks = d.config->tasks_max};
    cr_assert_eq(shm_create(&d.shm, &params), 0);
    d.shm.patience_ns = 0;
    cr_assert_eq(slot_reserve(&d.shm, UINT32_MAX, &slot, &gen), 0);
    cr_assert_eq(slot_attach(&d.shm, slot, gen), 0);
    cr_assert_eq(shm_pool_create(&d.shm, 0, "p", d.config->pools[0].queue_max), 0);
    d.base = event_base_new();
    d.bell_fd = -1;
    d.started_ns = clock_now();
    d.n_pools = 1;
    d.pools = calloc(1, sizeof(*d.pools));
    d.workers = calloc(4, sizeof(*d.workers));
    struct pool *p = &d.pools[0];
    p->config = &d.config->pools[0];
    p->state = POOL_READY;
    p->handlers = handlers;
    p->n_handlers = 1;
    list_init(&p->workers);
    list_init(&p->waiting);
    cr_assert_eq(shm_attach(&worker, d.shm.fd), 0);
    worker.bell_fd = -1;
    cr_assert_eq(slot_reserve(&d.shm, 0, &slot, &gen), 0);
    cr_assert_eq(slot_attach(&worker, slot, gen), 0);
    record_of_worker = (struct worker){.pool = p, .slot = slot, .gen = gen, .pid = 1, .pidfd = -1};
    list_append(&p->workers, &record_of_worker.in_pool);
    p->n_workers = 1;
    d.workers[slot] = &record_of_worker;
    cr_assert_eq(tasks_open(&d), 0);
    cr_assert_eq(serve_open(&d), 0);
    serve_accepting(&d, true);
    cr_assert_eq(wire_open(&w, d.config->socket_path), 0);
    cr_assert_eq(wire_open(&other, d.config->socket_path), 0);
}

static void end(void) {
    if (locked) {
        drop_locks();
    }
    wire_close(&w);
    wire_close(&other);
    serve_close(&d);
    tasks_close(&d);
    if (d.base) {
        event_base_free(d.base);
        libevent_global_shutdown();
    }
    shm_detach(&worker);
    shm_detach(&d.shm);
    config_free(d.config);
    free(d.pools);
    free(d.workers);
    if (dir[0]) {
        cr_assert_eq(tmp_remove(dir), 0);
    }
}

TestSuite(gateway, .timeout = 30, .fini = end);

/* Every block is accounted for, and so many records are in use. */
static void check_records(uint32_t in_use) {
    struct shm_report r;
    uint32_t n = 0;
    cr_assert_eq(shm_check(&d.shm, &r), 0);
    cr_assert_eq(r.errors, 0, "%s", r.first);
    for (int i = TASK_BUILDING; i <= TASK_FREEING; i++) {
        n += r.tasks[i];
    }
    cr_assert_eq(n, in_use, "%u records are in use", n);
}

/* ---- locks that are held ---- */

Test(gateway, a_busy_lock_delays_only_who_needs_it) {
    begin("");
    hold_locks();
    submit_bytes(&w, 1000);
    tell(&w, "ECHO behind");
    turns(20);
    cr_assert_not(readable(&w));
    cr_assert_str_eq(ask(&other, "PING"), "+PONG");
    cr_assert_str_eq(ask(&other, "CLIENT SETNAME x"), "+OK");
    drop_locks();
    hear(&w);
    cr_assert_eq(w.doc.v[0].type, RESP_BULK);
    cr_assert_str_eq(hear(&w), "\"behind\"");
    run_one(10);
    turns(1);
    check_records(1);
}

Test(gateway, msubmit_stretched_by_a_lock) {
    begin("");
    ask(&w, "HELLO 3");
    cr_assert_str_eq(ask(&w, "TASK.NOTIFY ON"), "+OK");
    hold_locks();
    msubmit_two(&w, 1000);
    turns(10);
    run_one(3); /* the first one is queued, and ends before its submitter knows of it */
    turns(10);
    cr_assert_not(readable(&w));
    drop_locks();
    hear(&w);
    cr_assert(w.doc.v[0].type == RESP_ARRAY && w.doc.v[0].count == 2, "%s", wire_show(&w));
    hear(&w);
    cr_assert(w.doc.v[0].type == RESP_PUSH && w.doc.v[0].count == 5, "%s", wire_show(&w));
    run_one(3);
    hear(&w);
    cr_assert_eq(w.doc.v[0].type, RESP_PUSH);
    cr_assert_str_eq(ask(&w, "ECHO end"), "\"end\"");
}

Test(gateway, msubmit_of_a_client_that_leaves_is_taken_back) {
    struct task_ref t;
    begin("");
    hold_locks();
    msubmit_two(&w, 1000);
    turns(10);
    wire_close(&w);
    turns(10);
    drop_locks();
    turns(10);
    cr_assert_eq(task_claim(&worker, 0, &t), -EAGAIN, "a worker has found a task");
    check_records(0);
}

/* Its client has not been told the id, but others can list it. */
Test(gateway, a_task_that_is_taken_back_is_told_to_who_waits_for_it) {
    char id[TASK_ID_TEXT + 1], line[96];
    begin("");
    hold_locks();
    msubmit_two(&w, 1000);
    turns(10);
    ask(&other, "TASK.LIST");
    snprintf(id, sizeof(id), "%.*s", (int)other.doc.v[3].len, other.doc.v[3].data);
    snprintf(line, sizeof(line), "TASK.WAIT %s %s", id, id);
    tell(&other, line);
    turns(10);
    wire_close(&w);
    const char *end = hear(&other);
    cr_assert(strstr(end, id) && strstr(end, "\"cancelled\" nil"), "%s", end);
    snprintf(line, sizeof(line), "TASK.RESULT %s", id);
    cr_assert_eq(strncmp(ask(&other, line), "-NOTASK", 7), 0);
    drop_locks();
    turns(10);
    check_records(0);
}

Test(gateway, msubmit_without_room_is_taken_back_even_when_begun) {
    struct task_ref t;
    begin("");
    hold_locks();
    msubmit_two(&w, 20 << 20); /* more than the segment */
    turns(10);
    cr_assert_eq(task_claim(&worker, 0, &t), 0); /* the first one has begun */
    drop_locks();
    const char *reply = hear(&w);
    cr_assert_eq(strncmp(reply, "-OOM ", 5), 0, "%s", reply);
    cr_assert(task_cancel_wanted(&worker, &t));
    cr_assert_neq(record_of_worker.kill_at_ns, 0);
    struct task_outcome o = {.state = TASK_DONE, .cause = CAUSE_RESULT};
    cr_assert_eq(task_finish(&worker, &t, &o), 0);
    turns(5);
    check_records(0);
    cr_assert_str_eq(ask(&w, "TASK.LIST"), "[]");
}

/* A worker over a connection ends its task when the lock is free, once, and hears of it then. */
Test(gateway, the_end_of_a_lease_waits_for_a_lock) {
    static struct worker remote; /* not a supervisor's, so its lease is taken away before the end */
    struct resp_arg done[3] = {{"WORKER.DONE", 11}};
    struct wire c = {.fd = -1};
    char id[TASK_ID_TEXT];
    begin("");
    d.config->pools[0].kind = POOL_PROGRAM;
    remote = (struct worker){.pool = &d.pools[0], .pidfd = -1, .pid = 7};
    cr_assert_eq(slot_reserve(&d.shm, 0, &remote.slot, &remote.gen), 0);
    slot_command(&d.shm, remote.slot, SLOT_GO);
    cr_assert_eq(lease_connect(&d, &remote, &c.fd), 0);
    cr_assert_str_eq(ask(&c, "WORKER.JOIN p"), "+OK");
    tell(&c, "WORKER.NEXT");
    tell(&w, "TASK.CALL p run ''");
    cr_assert_eq(strncmp(hear(&c), "[\"", 2), 0);
    size_t len = task_id_text(id, remote.lease->task.id, remote.lease->task.idx);
    done[1] = (struct resp_arg){id, len};
    hold_locks();
    tell_bytes(&c, done, 3, 1000);
    turns(20);
    cr_assert(!readable(&c) && !readable(&w));
    drop_locks();
    cr_assert_str_eq(hear(&c), "+OK");
    hear(&w);
    cr_assert_eq(w.doc.v[0].len, 1000);
    list_del(&remote.lease->in_conn);
    lease_free(remote.lease);
    wire_close(&c);
    turns(1);
    check_records(1);
}

Test(gateway, forgetting_waits_for_a_lock) {
    begin("result_keep = 0.05;");
    submit_bytes(&w, 1000);
    hear(&w);
    run_one(1000);
    turns(5);
    check_records(1);
    hold_locks();
    turns(100);
    cr_assert_str_eq(ask(&w, "TASK.LIST"), "[]"); /* forgotten, but not given back */
    drop_locks();
    turns(20);
    check_records(0);
}

/* ---- results on their way ---- */

Test(gateway, a_result_that_is_being_sent_outlives_being_forgotten) {
    enum { SIZE = 1 << 20 };
    char id[64], line[100];
    begin("result_keep = 0.05;");
    submit_bytes(&w, 1);
    hear(&w);
    snprintf(id, sizeof(id), "%.*s", (int)w.doc.v[0].len, w.doc.v[0].data);
    run_one(SIZE);
    turns(1);
    snprintf(line, sizeof(line), "TASK.RESULT %s", id);
    tell(&w, line); /* its reply does not fit into the socket */
    turns(100);
    cr_assert_eq(strncmp(ask(&other, line), "-NOTASK", 7), 0);
    check_records(1);
    hear(&w);
    cr_assert_eq(w.doc.v[2].len, SIZE);
    size_t whole = 0;
    while (whole < SIZE && w.doc.v[2].data[whole] == 'r') {
        whole++;
    }
    cr_assert_eq(whole, SIZE);
    turns(5);
    check_records(0);
}

Test(gateway, a_reader_that_leaves_lets_go) {
    begin("result_keep = 0.05;");
    tell(&w, "TASK.CALL p run x");
    turns(5);
    run_one(1 << 20);
    turns(5);
    wire_close(&w); /* with most of it unread */
    turns(100);
    check_records(0);
}

/* ---- hints and records that are wrong ---- */

Test(gateway, dropped_hints_are_swept_up) {
    enum { N = 50 };
    uint32_t idx;
    begin("");
    for (int i = 0; i < N; i++) {
        submit_bytes(&w, 1);
        hear(&w);
    }
    for (int i = 0; i < N; i++) {
        run_one(1);
    }
    while (task_next_ended(&d.shm, &idx) == 0) { /* the hints are gone */
    }
    atomic_store(&d.shm.head->sweep, 1); /* as a worker says that met a full ring */
    turns(1);
    struct tasks_stats s;
    tasks_stats(&d, &s);
    cr_assert_eq(s.kept, N);
    cr_assert_eq(s.live, 0);
}

Test(gateway, hints_may_come_twice_or_be_wrong) {
    begin("");
    tell(&w, "TASK.CALL p run x");
    turns(5);
    tasks_ended(&d, 0); /* not yet */
    tasks_ended(&d, 77);
    tasks_ended(&d, UINT32_MAX);
    struct task_ref t = run_one(1);
    tasks_ended(&d, t.idx);
    tasks_ended(&d, t.idx);
    cr_assert_str_eq(hear(&w), "\"r\"");
    cr_assert_str_eq(ask(&w, "PING"), "+PONG");
}

Test(gateway, a_damaged_record_ends_in_one_event) {
    begin("");
    tell(&w, "TASK.CALL p run x");
    turns(5);
    struct task_ref t = run_one(1000);
    worker.tasks[t.idx].output_len = UINT64_C(1) << 40;
    cr_assert_str_eq(hear(&w), "-LOST record damaged");
    cr_assert_str_eq(ask(&w, "PING"), "+PONG");
}

/* ---- patterns ---- */

Test(gateway, patterns_cost_no_power) {
    char pattern[4001], text[4001];
    for (size_t i = 0; i < 4000; i += 2) {
        memcpy(pattern + i, "*a", 2);
    }
    memset(text, 'a', 4000);
    text[3999] = 'b';
    uint64_t at = clock_now();
    cr_assert_not(glob_match(pattern, 4000, text, 4000));
    cr_assert_lt(clock_now() - at, NS_PER_SEC);
    cr_assert(glob_match_nocase("h[A-C]?*o", 9, "HbLLO", 5));
    cr_assert_not(glob_match("", 0, "x", 1));
    cr_assert(glob_match("", 0, "", 0));
    cr_assert(glob_match("\\*", 2, "*", 1));
    cr_assert_not(glob_match("\\*", 2, "x", 1));
}
