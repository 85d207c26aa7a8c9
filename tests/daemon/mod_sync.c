/* SPDX-License-Identifier: MIT */
/* A module for test_client_sync.c: handlers that use the functions of struct hearth_sync. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "worker/hearth_handler.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return api->fail(task, 1, "line %d: %s", __LINE__, #condition);                        \
        }                                                                                          \
    } while (0)
#define T(text)     hearth_text(text)
#define IS(b, text) ((b).len == strlen(text) && memcmp((b).data, text, (b).len) == 0)

static int init_result;

static int check_locks(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_sync *s = api->sync;
    struct hearth_bytes names[] = {T("t:l"), T("t:r"), T("t:w")};
    CHECK(init_result == -EPERM);
    CHECK(HEARTH_HAS(api, sync) && s->size == sizeof(*s));
    CHECK(s->lock_acquire(T("t:l"), -1, 0) == 0 && s->lock_is_held(T("t:l")) == 1);
    CHECK(s->lock_acquire(T("t:l"), -1, 0) == -EDEADLK);
    CHECK(s->lock_acquire(T("t:l"), 0, HEARTH_NO_CHECK) == -EBUSY);
    CHECK(s->lock_acquire(T("t:l"), 5, HEARTH_NO_CHECK) == -ETIMEDOUT);
    CHECK(s->lock_release(T("t:l"), 0) == 0 && s->lock_release(T("t:l"), 0) == -EPERM);
    CHECK(api->objects->type(T("t:l")) == HEARTH_TYPE_LOCK);
    CHECK(s->rlock_acquire(T("t:r"), -1, 0) == 0 && s->rlock_acquire(T("t:r"), 0, 0) == 0);
    CHECK(s->rlock_release(T("t:r"), 0) >= 0 && s->rlock_release(T("t:r"), 0) == 0);
    CHECK(s->rlock_release(T("t:r"), 0) == -EPERM);
    CHECK(s->rwlock_read(T("t:w"), 0, 0) == 0 && s->rwlock_release(T("t:w"), 0) == 0);
    CHECK(s->rwlock_write(T("t:w"), 0, 0) == 0 && s->rwlock_release(T("t:w"), 0) == 0);
    CHECK(api->objects->remove(names, 3) == 3);
    return 0;
}

static int check_kinds(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_sync *s = api->sync;
    struct hearth_bytes names[] = {T("t:s"), T("t:e"), T("t:c"), T("t:l"), T("t:b")};
    struct hearth_barrier_info info;
    CHECK(s->sem_create(T("t:s"), 2, 1) == 1 && s->sem_create(T("t:s"), 2, 1) == 0);
    CHECK(s->sem_acquire(T("t:s"), 2, 0) == 0 && s->sem_acquire(T("t:s"), 1, 5) == -ETIMEDOUT);
    CHECK(s->sem_value(T("t:s")) == 0 && s->sem_release(T("t:s"), 2) == 0);
    CHECK(s->sem_release(T("t:s"), 1) == -EOVERFLOW);
    CHECK(s->event_is_set(T("t:e")) == 0 && s->event_wait(T("t:e"), 5) == -ETIMEDOUT);
    CHECK(s->event_set(T("t:e")) >= 0 && s->event_wait(T("t:e"), -1) == 0);
    CHECK(s->event_is_set(T("t:e")) == 1 && s->event_clear(T("t:e")) >= 0);
    CHECK(s->cond_wait(T("t:c"), T("t:l"), 5) == -EPERM);
    CHECK(s->lock_acquire(T("t:l"), 0, 0) == 0);
    CHECK(s->cond_wait(T("t:c"), T("t:l"), 5) == -ETIMEDOUT && s->lock_is_held(T("t:l")) == 1);
    CHECK(s->cond_notify(T("t:c"), UINT64_MAX) == 0 && s->lock_release(T("t:l"), 0) == 0);
    CHECK(s->barrier_create(T("t:b"), 1) == 1 && s->barrier_wait(T("t:b"), -1) == 0);
    CHECK(s->barrier_abort(T("t:b")) == 0 && s->barrier_wait(T("t:b"), -1) == -ECONNABORTED);
    CHECK(s->barrier_info(T("t:b"), &info) == 0 && info.parties == 1 && info.broken);
    CHECK(s->barrier_reset(T("t:b")) == 0 && s->barrier_wait(T("t:b"), 0) == 0);
    api->objects->remove(names, 5);
    return 0;
}

static int check_queues(struct hearth_task *task, const struct hearth_api *api) {
    const struct hearth_sync *s = api->sync;
    const struct hearth_queue_options o = {.max_items = 2, .lease_ms = -1};
    struct hearth_bytes b, names[] = {T("t:q"), T("t:p")}, some[] = {T("one"), T("two"), T("3")};
    const struct hearth_bytes *all;
    struct hearth_queue_info info;
    uint64_t lease = 0, leases[2] = {0};
    size_t n = 0;
    CHECK(s->queue_create(T("t:q"), &o) == 1 && s->queue_create(T("t:q"), &o) == 0);
    CHECK(s->queue_put_many(T("t:q"), some, 3, 0) == 2);
    CHECK(s->queue_put(T("t:q"), T("x"), 5) == -ETIMEDOUT);
    CHECK(s->queue_get(T("t:q"), -1, &b, &lease) == 0 && IS(b, "one") && lease);
    CHECK(s->queue_extend(T("t:q"), lease, 60000) == 0 && s->queue_return(T("t:q"), lease) == 0);
    CHECK(s->queue_done(T("t:q"), lease) == -ENOENT);
    CHECK(s->queue_get_many(T("t:q"), 2, -1, &all, &n, leases) == 0 && n == 2);
    CHECK(IS(all[0], "one") && IS(all[1], "two"));
    CHECK(s->queue_info(T("t:q"), &info) == 0 && info.leased == 2 && info.max_items == 2);
    CHECK(s->queue_join(T("t:q"), 5) == -ETIMEDOUT);
    CHECK(s->queue_done(T("t:q"), leases[0]) == 0 && s->queue_done(T("t:q"), leases[1]) == 0);
    CHECK(s->queue_join(T("t:q"), -1) == 0 && s->queue_task_done(T("t:q")) == -EOVERFLOW);
    CHECK(s->queue_close(T("t:q")) >= 0 && s->queue_put(T("t:q"), T("x"), 0) == -EPIPE);
    CHECK(s->queue_get(T("t:q"), -1, &b, NULL) == -EPIPE);
    CHECK(s->pipe_create(T("t:p"), 0, 0) == 1 && s->pipe_open(T("t:p"), 0) >= 0);
    CHECK(s->pipe_open(T("t:p"), 2) == -EINVAL && s->pipe_poll(T("t:p"), 0, 0) == 0);
    CHECK(s->pipe_send(T("t:p"), 1, T("hello"), 0) == 0 && s->pipe_poll(T("t:p"), 0, -1) == 1);
    CHECK(s->pipe_recv(T("t:p"), 0, -1, &b) == 0 && IS(b, "hello"));
    CHECK(s->pipe_close(T("t:p"), 1) >= 0 && s->pipe_recv(T("t:p"), 0, -1, &b) == -EPIPE);
    CHECK(s->pipe_send(T("t:p"), 0, T("x"), 0) == -EBADF);
    CHECK(api->objects->remove(names, 2) == 2);
    return 0;
}

static int check(struct hearth_task *task, const struct hearth_api *api) {
    int r = check_locks(task, api);
    r = r ? r : check_kinds(task, api);
    r = r ? r : check_queues(task, api);
    return r ? r : api->write(task, "well", 4);
}

static int lock(struct hearth_task *task, const struct hearth_api *api) {
    char text[] = "taken 0";
    int r = api->sync->lock_acquire(T("l"), -1, 0);
    if (r < 0) {
        return api->fail(task, 1, "%d", r);
    }
    text[6] = (char)('0' + r);
    api->write(task, text, 7);
    return api->sync->lock_release(T("l"), 0);
}

static int leave(struct hearth_task *task, const struct hearth_api *api) {
    return api->sync->lock_acquire(T("l"), -1, 0) || api->write(task, "left", 4);
}

static int die(struct hearth_task *task, const struct hearth_api *api) {
    (void)task;
    return api->sync->lock_acquire(T("l"), -1, 0) || raise(SIGKILL);
}

static int init(const struct hearth_api *api, int argc, const char *const *argv) {
    (void)argc;
    (void)argv;
    init_result = api->sync->lock_acquire(T("t:l"), 0, 0);
    return 0;
}

static const struct hearth_handler handlers[] = {{"check", "calls every function", check},
                                                 {"lock", "waits for a lock", lock},
                                                 {"leave", "leaves it held", leave},
                                                 {"die", "dies with it", die},
                                                 {0}};
HEARTH_EXPORT const struct hearth_module hearth_module = {
    HEARTH_MODULE_HEAD, .name = "sync", .version = "1", .handlers = handlers, .init = init};
