/* SPDX-License-Identifier: MIT */
/* Queues and pipes, by handles of one process: order, bounds, who is told what, leases, and what is left when owners end.
 * Fails: as a Criterion suite. */
#include "tests/unit/objects.h"

#include <pthread.h>
#include <stdio.h>

#include "lib/shm/check.h"
#include "lib/shm/objects_queue.h"
#include "lib/shm/op.h"
#include "lib/shm/sync_private.h"

TestSuite(queue, .timeout = 60);
TestSuite(pipe, .timeout = 60);

enum { HANDLES = 4 };

static struct shm h[HANDLES];
static struct objects o[HANDLES];
static const struct task_bytes q = {"q", 1};
static struct key_name name;

static void begin_with(uint64_t size) {
    h[0] = new_segment(size);
    for (int i = 1; i < HANDLES; i++) {
        uint32_t slot, gen;
        shm_share(&h[0], &h[i]);
        cr_assert_eq(slot_reserve(&h[0], 0, &slot, &gen), 0);
        cr_assert_eq(slot_attach(&h[i], slot, gen), 0);
    }
    for (int i = 0; i < HANDLES; i++) {
        objects_init(&o[i], &h[i]);
    }
    name = key_name(&h[0], q.data, q.len);
}

static void begin(void) {
    begin_with(8 << 20);
}

static void end(void) {
    struct shm_report report;
    objects_delete(&o[0], &q, 1);
    for (unsigned i = 0; i < SHM_SHARDS; i++) {
        while (op_tidy(&h[0], i) == 1) {
        }
    }
    cr_assert_eq(shm_check(&h[0], &report), 0);
    cr_assert_eq(report.errors, 0, "%s", report.first);
    for (int i = HANDLES - 1; i >= 0; i--) {
        objects_deinit(&o[i]);
        shm_detach(&h[i]);
    }
}

static void sound(void) {
    struct shm_report report;
    cr_assert_eq(shm_check(&h[0], &report), 0);
    cr_assert_eq(report.errors, 0, "%s", report.first);
}

static void kill_handle(int i) {
    uint32_t slot = h[i].slot, gen = owner_gen(h[i].me);
    *(_Atomic uint32_t *)(void *)&h[i].mine->life |= FUTEX_OWNER_DIED;
    cr_assert_eq(slot_bury(&h[0], slot, gen), 0);
}

static int64_t put1(int i, const char *word, int64_t ms) {
    struct task_bytes b = {word, strlen(word)};
    return objects_queue_put(&o[i], q, &b, 1, ms);
}

/* What is got, as a word; or an error's number. */
static const char *get1(int i, uint64_t *lease) {
    static char word[64];
    const struct task_bytes *items;
    size_t n;
    int r = objects_queue_get(&o[i], q, 1, 0, &items, &n, lease);
    if (r) {
        snprintf(word, sizeof(word), "%d", r);
    } else {
        cr_assert_eq(n, 1);
        snprintf(word, sizeof(word), "%.*s", (int)items->len, (const char *)items->data);
    }
    return word;
}
#define GOT(i, lease, word) cr_assert_str_eq(get1(i, lease), word)
static const char *code(int r) {
    static char s[16];
    snprintf(s, sizeof(s), "%d", r);
    return s;
}

/* Calls that stand in line and return at once. */
struct try {
    char what;
    const char *word;
    unsigned end;
    size_t len;
    char got[64];
};
static int keep_word(void *arg, const void *data, size_t len, uint64_t lease) {
    struct try *t = arg;
    (void)lease;
    snprintf(t->got, sizeof(t->got), "%.*s", (int)len, (const char *)data);
    return 0;
}
static int keep_message(void *arg, const void *data, size_t len) {
    return keep_word(arg, data, len, 0);
}
static int run_try(struct shm *s, void *arg) {
    struct try *t = arg;
    struct task_bytes b = {t->word, t->word ? strlen(t->word) : 0};
    switch (t->what) {
    case 'p':
        return queue_put(s, &name, &b, 1, SYNC_WAIT);
    case 'g':
        return queue_get(s, &name, 1, SYNC_WAIT, keep_word, t);
    case 'j':
        return queue_join(s, &name, SYNC_WAIT);
    case 's':
        return pipe_send(s, &name, t->end, t->word, t->len ? t->len : b.len, SYNC_WAIT);
    case 'r':
        return pipe_recv(s, &name, t->end, SYNC_WAIT, keep_message, t);
    default:
        return pipe_poll(s, &name, t->end, SYNC_WAIT);
    }
}
static struct try last;
static int try(int i, char what, const char *word) {
    last = (struct try){.what = what, .word = word};
    return op_run(&h[i], key_shard_bit(&name), run_try, &last);
}
static int at_end(int i, char what, unsigned which, const char *word) {
    last = (struct try){.what = what, .word = word, .end = which};
    return op_run(&h[i], key_shard_bit(&name), run_try, &last);
}

static struct queue_view view(void) {
    struct queue_view v = {0};
    cr_assert_eq(objects_queue_view(&o[0], q, &v), 0);
    return v;
}

Test(queue, first_in_first_out) {
    begin();
    GOT(0, NULL, code(-EBUSY));
    cr_assert_eq(objects_queue_view(&o[0], q, &(struct queue_view){0}), -ENOENT);
    cr_assert_eq(put1(0, "a", 0), 1);
    cr_assert_eq(put1(1, "b", 0), 1);
    cr_assert_eq(objects_type(&o[0], q), KEY_QUEUE);
    cr_assert_eq(view().items, 2);
    GOT(2, NULL, "a");
    GOT(0, NULL, "b");
    GOT(0, NULL, code(-EBUSY));
    sound();
    end();
}

Test(queue, many_at_once) {
    begin();
    enum { N = 3000 };
    static struct task_bytes in[N];
    static char words[N][24];
    for (int i = 0; i < N; i++) {
        in[i] = (struct task_bytes){words[i], (size_t)snprintf(words[i], 24, "item %d", i)};
    }
    cr_assert_eq(objects_queue_put(&o[0], q, in, N, 0), N);
    const struct task_bytes *items;
    size_t n, all = 0;
    while (all < N) {
        cr_assert_eq(objects_queue_get(&o[1], q, 500, 0, &items, &n, NULL), 0);
        for (size_t i = 0; i < n; i++, all++) {
            cr_assert_eq(items[i].len, in[all].len);
            cr_assert_arr_eq(items[i].data, in[all].data, in[all].len);
        }
    }
    cr_assert_eq(view().items, 0);
    cr_assert_eq(view().unfinished, N);
    end();
}

Test(queue, a_bound_holds) {
    begin();
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){2, 0}), 1);
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){2, 0}), 0);
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){3, 0}), -EEXIST);
    struct task_bytes b[3] = {{"a", 1}, {"b", 1}, {"c", 1}};
    cr_assert_eq(objects_queue_put(&o[0], q, b, 3, 0), 2);
    cr_assert_eq(put1(0, "d", 0), -EBUSY);
    cr_assert_eq(put1(0, "d", 20), -ETIMEDOUT);
    cr_assert_eq(view().putters, 0);
    /* putters go on in order, and nobody takes the place that was made for one */
    cr_assert_eq(try(1, 'p', "x"), -EINPROGRESS);
    cr_assert_eq(try(2, 'p', "y"), -EINPROGRESS);
    cr_assert_eq(view().putters, 2);
    GOT(0, NULL, "a");
    cr_assert_eq(put1(3, "z", 0), -EBUSY);
    cr_assert_eq(sync_poll(&h[2]), -EINPROGRESS);
    cr_assert_eq(sync_poll(&h[1]), 0);
    cr_assert_eq(try(1, 'p', "x"), 1);
    GOT(0, NULL, "b");
    cr_assert_eq(sync_poll(&h[2]), 0);
    sound();
    kill_handle(2); /* with the right to a place */
    cr_assert_eq(put1(3, "z", 0), 1);
    GOT(0, NULL, "x");
    GOT(0, NULL, "z");
    end();
}

Test(queue, getters_go_on_in_order) {
    begin();
    cr_assert_eq(try(1, 'g', NULL), -EINPROGRESS);
    cr_assert_eq(try(1, 'g', NULL), -EINPROGRESS);
    cr_assert_eq(try(2, 'g', NULL), -EINPROGRESS);
    cr_assert_eq(try(3, 'g', NULL), -EINPROGRESS);
    cr_assert_eq(view().getters, 3);
    cr_assert_eq(put1(0, "a", 0), 1);
    cr_assert_eq(put1(0, "b", 0), 1);
    GOT(0, NULL, code(-EBUSY)); /* both are spoken for */
    cr_assert_eq(sync_poll(&h[3]), -EINPROGRESS);
    cr_assert_eq(sync_poll(&h[1]), 0);
    cr_assert_eq(sync_give_up(&h[1]), 0);
    kill_handle(1); /* it never came for it: the third has it now */
    cr_assert_eq(sync_poll(&h[3]), 0);
    cr_assert_eq(try(3, 'g', NULL), 1);
    cr_assert_str_eq(last.got, "a");
    cr_assert_eq(sync_poll(&h[2]), 0);
    cr_assert_eq(sync_forgo(&h[2]), 0);
    GOT(0, NULL, "b");
    cr_assert_eq(try(2, 'g', NULL), -EINPROGRESS);
    cr_assert_eq(sync_give_up(&h[2]), -ETIMEDOUT);
    cr_assert_eq(view().getters, 0);
    sound();
    end();
}

Test(queue, closing) {
    begin();
    cr_assert_eq(objects_queue_close(&o[0], q), -ENOENT);
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){1, 0}), 1);
    cr_assert_eq(put1(0, "a", 0), 1);
    cr_assert_eq(try(1, 'p', "b"), -EINPROGRESS);
    cr_assert_eq(objects_queue_close(&o[0], q), 0);
    cr_assert_eq(objects_queue_close(&o[0], q), 0);
    cr_assert_eq(sync_poll(&h[1]), -EPIPE);
    cr_assert_eq(put1(0, "c", -1), -EPIPE);
    GOT(2, NULL, "a");
    GOT(2, NULL, code(-EPIPE));
    cr_assert_eq(try(3, 'g', NULL), -EPIPE);
    objects_delete(&o[0], &q, 1);
    /* those who wait to get are told as well */
    cr_assert_eq(try(1, 'g', NULL), -EINPROGRESS);
    cr_assert_eq(objects_queue_close(&o[0], q), 0);
    cr_assert_eq(sync_wait(&h[1], -1), -EPIPE);
    end();
}

Test(queue, deleting_tells_those_who_wait) {
    begin();
    cr_assert_eq(try(1, 'g', NULL), -EINPROGRESS);
    cr_assert_eq(objects_delete(&o[0], &q, 1), 1);
    cr_assert_eq(sync_wait(&h[1], -1), -EIDRM);
    end();
}

Test(queue, join_waits_for_what_was_put) {
    begin();
    cr_assert_eq(objects_queue_join(&o[0], q, 0), 0);
    cr_assert_eq(put1(0, "a", 0), 1);
    cr_assert_eq(put1(0, "b", 0), 1);
    cr_assert_eq(objects_queue_join(&o[0], q, 0), -EBUSY);
    cr_assert_eq(objects_queue_join(&o[0], q, 10), -ETIMEDOUT);
    cr_assert_eq(try(1, 'j', NULL), -EINPROGRESS);
    cr_assert_eq(objects_queue_task_done(&o[0], q), 0);
    cr_assert_eq(sync_poll(&h[1]), -EINPROGRESS);
    cr_assert_eq(objects_queue_task_done(&o[0], q), 0);
    cr_assert_eq(sync_poll(&h[1]), 0);
    cr_assert_eq(put1(0, "c", 0), 1);
    cr_assert_eq(try(1, 'j', NULL), 0); /* it was so */
    cr_assert_eq(objects_queue_task_done(&o[0], q), 0);
    cr_assert_eq(objects_queue_task_done(&o[0], q), -EOVERFLOW);
    end();
}

Test(queue, what_is_on_lease_comes_back) {
    begin();
    uint64_t a, b, c;
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){0, -1}), 1);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(put1(0, (const char *[]){"a", "b", "c", "d"}[i], 0), 1);
    }
    GOT(1, &a, "a");
    GOT(1, &b, "b");
    GOT(2, &c, "c");
    cr_assert_eq(view().leased, 3);
    cr_assert_eq(view().items, 1);
    cr_assert_eq(objects_queue_done(&o[2], q, a), -EPERM);
    cr_assert_eq(objects_queue_done(&o[2], q, c + 12345), -ENOENT);
    cr_assert_eq(objects_queue_done(&o[2], q, c), 0);
    cr_assert_eq(objects_queue_done(&o[2], q, c), -ENOENT);
    cr_assert_eq(view().unfinished, 3);
    sound();
    kill_handle(1);
    cr_assert_eq(view().leased, 0);
    GOT(0, &a, "a");
    GOT(0, &b, "b");
    GOT(0, &c, "d");
    cr_assert_eq(objects_queue_return(&o[0], q, b), 0);
    cr_assert_eq(objects_queue_done(&o[0], q, b), -ENOENT);
    GOT(3, &b, "b");
    cr_assert_eq(objects_queue_done(&o[3], q, b), 0);
    cr_assert_eq(objects_queue_done(&o[0], q, a), 0);
    /* one who waits gets what comes back, though the queue is closed */
    cr_assert_eq(objects_queue_close(&o[0], q), 0);
    cr_assert_eq(try(2, 'g', NULL), -EINPROGRESS);
    cr_assert_eq(objects_queue_return(&o[0], q, c), 0);
    cr_assert_eq(sync_poll(&h[2]), 0);
    cr_assert_eq(try(2, 'g', NULL), 1);
    cr_assert_str_eq(last.got, "d");
    GOT(2, NULL, code(-EPIPE)); /* nobody else has any */
    sound();
    end();
}

Test(queue, leases_end) {
    begin();
    uint64_t a, b, c;
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){0, 20}), 1);
    cr_assert_eq(queue_expire_leases(&h[0]), -1);
    cr_assert_eq(put1(0, "a", 0), 1);
    cr_assert_eq(put1(0, "b", 0), 1);
    cr_assert_eq(put1(0, "c", 0), 1);
    cr_assert_not(queue_lease_news(&h[0]));
    GOT(1, &a, "a");
    GOT(1, &b, "b");
    GOT(1, &c, "c");
    cr_assert(queue_lease_news(&h[0]));
    cr_assert_eq(objects_queue_extend(&o[1], q, a, 3600000), 0);
    cr_assert_eq(objects_queue_extend(&o[1], q, b, -1), 0);
    int64_t ms = queue_expire_leases(&h[0]);
    cr_assert(ms >= 0 && ms <= 21, "%lld", (long long)ms);
    cr_assert_not(queue_lease_news(&h[0]));
    cr_assert_eq(try(2, 'g', NULL), -EINPROGRESS);
    for (int i = 0; ms >= 0 && ms < 1000 && i < 100; i++) {
        struct timespec t = {0, (long)(ms + 1) * 1000000};
        nanosleep(&t, NULL);
        ms = queue_expire_leases(&h[0]);
    }
    cr_assert(ms > 1000 && ms <= 3600001);
    cr_assert_eq(sync_poll(&h[2]), 0);
    cr_assert_eq(try(2, 'g', NULL), 1);
    cr_assert_str_eq(last.got, "c");
    cr_assert_eq(objects_queue_done(&o[1], q, c), -ENOENT);
    cr_assert_eq(view().leased, 3);
    sound();
    end();
}

Test(queue, many_leases) {
    begin();
    enum { N = 300 };
    static uint64_t lease[N];
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){0, 3600000}), 1);
    static struct task_bytes in[N];
    static char words[N][24];
    for (int i = 0; i < N; i++) {
        in[i] = (struct task_bytes){words[i], (size_t)snprintf(words[i], 24, "%d", i)};
    }
    cr_assert_eq(objects_queue_put(&o[0], q, in, N, 0), N);
    const struct task_bytes *items;
    size_t n;
    cr_assert_eq(objects_queue_get(&o[1], q, N, 0, &items, &n, lease), 0);
    cr_assert_eq(n, N);
    for (int i = 0; i < N; i += 3) {
        cr_assert_eq(objects_queue_done(&o[1], q, lease[i]), 0);
    }
    sound();
    kill_handle(1);
    sound();
    cr_assert_eq(objects_queue_get(&o[2], q, N, 0, &items, &n, lease), 0);
    cr_assert_eq(n, N * 2 / 3);
    for (size_t i = 0; i < n; i++) {
        char want[24];
        snprintf(want, sizeof(want), "%zu", i / 2 * 3 + 1 + i % 2);
        cr_assert_eq(items[i].len, strlen(want));
        cr_assert_arr_eq(items[i].data, want, strlen(want));
    }
    end();
}

Test(queue, items_of_any_size) {
    begin();
    static char big[1 << 20];
    memset(big, 'x', sizeof(big));
    struct task_bytes b[] = {{big, sizeof(big)}, {"", 0}, {big, 600}};
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){0, -1}), 1);
    cr_assert_eq(objects_queue_put(&o[0], q, b, 3, 0), 3);
    for (int round = 0; round < 2; round++) {
        const struct task_bytes *items;
        size_t n;
        uint64_t leases[3];
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(objects_queue_get(&o[0], q, 1, 0, &items, &n, &leases[i]), 0);
            cr_assert_eq(items->len, b[i].len);
            cr_assert_arr_eq(items->data, b[i].data, b[i].len);
        }
        for (int i = 2; i >= 0; i--) {
            cr_assert_eq(round ? objects_queue_done(&o[0], q, leases[i])
                               : objects_queue_return(&o[0], q, leases[i]),
                         0);
        }
        sound();
    }
    end();
}

Test(queue, the_largest_item) {
    const size_t most = 64 << 20;
    uint64_t lease;
    begin_with(UINT64_C(512) << 20);
    struct task_bytes b = {calloc(1, most + 1), most};
    cr_assert_not_null(b.data);
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){0, -1}), 1);
    cr_assert_eq(objects_queue_put(&o[0], q, &b, 1, 0), 1);
    cr_assert_eq(objects_queue_put(&o[0], q, &(struct task_bytes){b.data, most + 1}, 1, 0),
                 -EMSGSIZE);
    const struct task_bytes *items;
    size_t n;
    cr_assert_eq(objects_queue_get(&o[0], q, 1, 0, &items, &n, &lease), 0);
    cr_assert_eq(items->len, most);
    cr_assert_eq(objects_queue_done(&o[0], q, lease), 0);
    free((void *)(uintptr_t)b.data);
    end();
}

/* ---- asleep ---- */

static void *get_after_all(void *arg) {
    const struct task_bytes *items;
    size_t n;
    return (void *)(intptr_t)objects_queue_get(arg, q, 1, 30000, &items, &n, NULL);
}

Test(queue, one_who_sleeps_while_it_gets_another_name) {
    begin();
    static const struct task_bytes other = {"other", 5};
    struct task_bytes b = {"a", 1};
    pthread_t a;
    void *r;
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){5, 0}), 1);
    pthread_create(&a, NULL, get_after_all, &o[1]);
    while (view().getters == 0) {
    }
    cr_assert_eq(objects_rename(&o[0], q, other, false), 0);
    cr_assert_eq(objects_queue_put(&o[0], other, &b, 1, 0), 1);
    pthread_join(a, &r);
    cr_assert_eq((intptr_t)r, -EIDRM);
    const struct task_bytes *items;
    size_t n;
    cr_assert_eq(objects_queue_get(&o[0], other, 1, 0, &items, &n, NULL), 0);
    sound();
    end();
}

enum { SENT = 20000 };

static void *produce(void *arg) {
    struct objects *mine = arg;
    for (int i = 0; i < SENT; i++) {
        char word[16];
        struct task_bytes b = {word, (size_t)snprintf(word, sizeof(word), "%d", i)};
        if (objects_queue_put(mine, q, &b, 1, -1) != 1) {
            return "put";
        }
    }
    return NULL;
}

static void *consume(void *arg) {
    struct objects *mine = arg;
    for (int i = 0; i < SENT;) {
        const struct task_bytes *items;
        size_t n;
        if (objects_queue_get(mine, q, 7, 30000, &items, &n, NULL)) {
            return "get";
        }
        for (size_t k = 0; k < n; k++, i++) {
            if (strtol(items[k].data, NULL, 10) != i) {
                return "order";
            }
        }
    }
    return NULL;
}

Test(queue, two_who_sleep_for_each_other) {
    begin();
    pthread_t a, b;
    void *ra, *rb;
    cr_assert_eq(objects_queue_create(&o[0], q, &(struct queue_params){5, 0}), 1);
    pthread_create(&a, NULL, produce, &o[1]);
    pthread_create(&b, NULL, consume, &o[2]);
    pthread_join(a, &ra);
    pthread_join(b, &rb);
    cr_assert_null(ra, "%s", (char *)ra);
    cr_assert_null(rb, "%s", (char *)rb);
    end();
}

/* ---- pipes ---- */

static struct pipe_view pview(void) {
    struct pipe_view v = {0};
    cr_assert_eq(objects_pipe_view(&o[0], q, &v), 0);
    return v;
}

static void make_pipe(bool duplex, uint64_t buffer) {
    cr_assert_eq(objects_pipe_create(&o[0], q, &(struct pipe_params){duplex, buffer}), 1);
}

#define SEND(i, end, word)                                                                         \
    objects_pipe_send(&o[i], q, end, (struct task_bytes){word, strlen(word)}, 0)
static const char *recv1(int i, unsigned end) {
    static char word[64];
    struct task_bytes b;
    int r = objects_pipe_recv(&o[i], q, end, 0, &b);
    if (r) {
        snprintf(word, sizeof(word), "%d", r);
    } else {
        snprintf(word, sizeof(word), "%.*s", (int)b.len, (const char *)b.data);
    }
    return word;
}

Test(pipe, messages_both_ways) {
    begin();
    cr_assert_eq(SEND(0, 0, "x"), -ENOENT);
    make_pipe(true, 0);
    cr_assert_eq(objects_pipe_create(&o[0], q, &(struct pipe_params){true, 0}), 0);
    cr_assert_eq(objects_pipe_create(&o[0], q, &(struct pipe_params){false, 0}), -EEXIST);
    cr_assert_eq(SEND(0, 0, "one"), 0);
    cr_assert_eq(SEND(0, 0, ""), 0);
    cr_assert_eq(SEND(1, 1, "back"), 0);
    cr_assert_eq(SEND(1, 2, "?"), -EINVAL);
    cr_assert_eq(objects_pipe_poll(&o[1], q, 1, 0), 1);
    cr_assert_str_eq(recv1(1, 1), "one");
    cr_assert_str_eq(recv1(1, 1), "");
    cr_assert_str_eq(recv1(1, 1), code(-EBUSY));
    cr_assert_eq(objects_pipe_poll(&o[1], q, 1, 10), 0);
    cr_assert_str_eq(recv1(0, 0), "back");
    cr_assert_eq(pview().end[0].holders, 1);
    sound();
    end();
}

Test(pipe, simplex_goes_one_way) {
    begin();
    make_pipe(false, 0);
    cr_assert_eq(SEND(0, 0, "x"), -EBADF);
    cr_assert_eq(SEND(0, 1, "x"), 0);
    cr_assert_str_eq(recv1(0, 1), code(-EBADF));
    cr_assert_str_eq(recv1(0, 0), "x");
    end();
}

Test(pipe, it_ends_when_all_holders_are_gone) {
    begin();
    make_pipe(true, 0);
    cr_assert_str_eq(recv1(0, 0), code(-EBUSY)); /* nobody was there yet */
    cr_assert_eq(objects_pipe_open(&o[1], q, 1), 0);
    cr_assert_eq(objects_pipe_open(&o[1], q, 1), 0);
    cr_assert_eq(objects_pipe_open(&o[2], q, 1), 0);
    cr_assert_eq(SEND(2, 1, "last"), 0);
    cr_assert_eq(objects_pipe_close(&o[1], q, 1), 0);
    cr_assert_eq(objects_pipe_close(&o[3], q, 1), -EPERM);
    kill_handle(2);
    cr_assert_eq(pview().end[1].holders, 1);
    cr_assert_str_eq(recv1(0, 0), "last");
    cr_assert_eq(at_end(0, 'r', 0, NULL), -EINPROGRESS);
    cr_assert_eq(at_end(3, '?', 0, NULL), -EINPROGRESS);
    cr_assert_eq(objects_pipe_close(&o[1], q, 1), 0);
    cr_assert_eq(sync_wait(&h[0], -1), -EPIPE);
    cr_assert_eq(sync_wait(&h[3], -1), 0);
    cr_assert_eq(at_end(3, '?', 0, NULL), 0);
    cr_assert_eq(SEND(0, 0, "x"), -EPIPE);
    cr_assert_str_eq(recv1(0, 0), code(-EPIPE));
    cr_assert_eq(objects_pipe_poll(&o[0], q, 0, -1), 1);
    sound();
    end();
}

Test(pipe, a_full_one_makes_senders_wait_in_order) {
    begin();
    make_pipe(true, 10);
    cr_assert_eq(SEND(0, 0, "a message that is larger than all of it"), 0);
    cr_assert_eq(SEND(0, 0, "x"), -EBUSY);
    cr_assert_eq(at_end(1, 's', 0, "12345678"), -EINPROGRESS);
    cr_assert_eq(at_end(2, 's', 0, "abc"), -EINPROGRESS);
    cr_assert_eq(at_end(3, 's', 0, "z"), -EINPROGRESS);
    cr_assert_str_eq(recv1(0, 1), "a message that is larger than all of it");
    cr_assert_eq(sync_poll(&h[3]), -EINPROGRESS); /* it would fit, but it is not its turn */
    cr_assert_eq(sync_poll(&h[1]), 0);
    kill_handle(1);
    cr_assert_eq(sync_poll(&h[2]), 0);
    cr_assert_eq(sync_poll(&h[3]), 0);
    cr_assert_eq(at_end(3, 's', 0, "z"), 0);
    cr_assert_eq(at_end(2, 's', 0, "abc"), 0);
    cr_assert_str_eq(recv1(0, 1), "z");
    cr_assert_str_eq(recv1(0, 1), "abc");
    cr_assert_eq(pview().end[1].bytes, 0);
    /* the only one who can receive goes */
    cr_assert_eq(SEND(2, 0, "0123456789"), 0);
    cr_assert_eq(at_end(2, 's', 0, "more"), -EINPROGRESS);
    cr_assert_eq(objects_pipe_close(&o[0], q, 1), 0);
    cr_assert_eq(sync_poll(&h[2]), -EPIPE);
    sound();
    end();
}

Test(pipe, receivers_go_on_in_order) {
    begin();
    make_pipe(true, 0);
    cr_assert_eq(at_end(1, 'r', 1, NULL), -EINPROGRESS);
    cr_assert_eq(at_end(2, 'r', 1, NULL), -EINPROGRESS);
    cr_assert_eq(SEND(0, 0, "for the first"), 0);
    cr_assert_str_eq(recv1(3, 1), code(-EBUSY));
    cr_assert_eq(sync_poll(&h[2]), -EINPROGRESS);
    kill_handle(1);
    cr_assert_eq(sync_poll(&h[2]), 0);
    cr_assert_eq(at_end(2, 'r', 1, NULL), 0);
    cr_assert_str_eq(last.got, "for the first");
    sound();
    end();
}
