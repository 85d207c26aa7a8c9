/* SPDX-License-Identifier: MIT */
/* See pool_support.h. Answers are read from the parsed reply by field name, so that fields may be
 * added.
 *
 * Fails: by cr_assert. */
#include "tests/daemon/pool_support.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <signal.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLACK = 10 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SLACK = 10 };
#else
enum { SLACK = 3 };
#endif
#else
enum { SLACK = 3 };
#endif

int within(int ms) {
    return ms * SLACK;
}

double now_ms(void) {
    return (double)clock_now() / NS_PER_MS;
}

static void take_id(struct wire *w, char ret_id[ID_MAX]) {
    cr_assert_eq(wire_read(w, WIRE_LIMIT_MS), 0);
    const struct resp_value *v = &w->doc.v[0];
    cr_assert(v->type == RESP_BULK && v->len < ID_MAX, "submit: %s", wire_show(w));
    memcpy(ret_id, v->data, v->len);
    ret_id[v->len] = '\0';
}

void submit(struct wire *w, const char *pool, const char *handler, const char *arg,
            const char *timeout, char ret_id[ID_MAX]) {
    struct resp_arg words[8] = {
        {"TASK.SUBMIT", 11}, {pool, strlen(pool)}, {handler, strlen(handler)}, {"", 0}};
    size_t n = 4;
    if (arg) {
        words[n++] = (struct resp_arg){"ARG", 3};
        words[n++] = (struct resp_arg){arg, strlen(arg)};
    }
    if (timeout) {
        words[n++] = (struct resp_arg){"TIMEOUT", 7};
        words[n++] = (struct resp_arg){timeout, strlen(timeout)};
    }
    cr_assert_eq(wire_send_words(w, words, n), 0);
    take_id(w, ret_id);
}

void submit_shell(struct wire *w, const char *script, const char *timeout, char ret_id[ID_MAX]) {
    cr_assert_eq(wire_send(w, "TASK.SUBMIT", "shell", "run", "", "ARG", "sh", "ARG", "-c", "ARG",
                           script, "TIMEOUT", timeout ? timeout : "0", NULL),
                 0);
    take_id(w, ret_id);
}

static bool is_text(const struct resp_value *v, const char *text) {
    return v->len == strlen(text) && memcmp(v->data, text, v->len) == 0;
}

pid_t wait_running(struct wire *w, const char *id) {
    double until = now_ms() + within(3000);
    for (;;) {
        wire_call(w, "TASK.STATUS", id, NULL);
        uint32_t state = wire_find(w, 0, "state"), pid = wire_find(w, 0, "worker_pid");
        cr_assert(state && pid, "TASK.STATUS: %s", wire_show(w));
        if (is_text(&w->doc.v[state], "running") && w->doc.v[pid].integer > 0) {
            return (pid_t)w->doc.v[pid].integer;
        }
        /* for an instant a task is running and its worker's pid not yet written */
        bool on_its_way =
            is_text(&w->doc.v[state], "queued") || is_text(&w->doc.v[state], "running");
        cr_assert(now_ms() < until && on_its_way, "not running: %s", wire_show(w));
        sched_yield();
    }
}

const char *wait_end(struct wire *w, const char *id) {
    static char text[1024];
    wire_call(w, "TASK.WAIT", id, NULL);
    const struct resp_value *v = w->doc.v;
    cr_assert(v[0].type == RESP_ARRAY && v[0].count == 4, "TASK.WAIT: %s", wire_show(w));
    bool none = v[3].type == RESP_NULL;
    snprintf(text, sizeof(text), "%.*s|%.*s|%.*s", (int)v[2].len, v[2].data,
             none ? 3 : (int)v[3].len, none ? "nil" : v[3].data, (int)v[4].len, v[4].data);
    return text;
}

pid_t call_named(struct wire *w, const char *pool) {
    wire_call(w, "TASK.CALL", pool, "named", "", NULL);
    cr_assert_eq(w->doc.v[0].type, RESP_BULK, "TASK.CALL: %s", wire_show(w));
    return (pid_t)strtol(w->doc.v[0].data, NULL, 10);
}

const char *pool_info(struct wire *w, const char *pool, const char *field) {
    static char text[512];
    wire_call(w, "POOL.INFO", pool, NULL);
    uint32_t i = wire_find(w, 0, field);
    cr_assert(i != 0, "POOL.INFO has no %s: %s", field, wire_show(w));
    const struct resp_value *v = &w->doc.v[i];
    if (v->type == RESP_INT) {
        snprintf(text, sizeof(text), "%lld", (long long)v->integer);
    } else {
        snprintf(text, sizeof(text), "%.*s", (int)v->len, v->data ? v->data : "");
    }
    return text;
}

bool pool_becomes(struct wire *w, const char *pool, const char *field, const char *value, int ms) {
    double until = now_ms() + ms;
    while (strcmp(pool_info(w, pool, field), value) != 0) {
        if (now_ms() > until) {
            return false;
        }
        sched_yield();
    }
    return true;
}

long loop_turns(struct wire *w) {
    static const char key[] = "loop_turns:";
    const char *at = strstr(wire_call(w, "INFO", "server", NULL), key);
    cr_assert(at != NULL);
    return strtol(at + strlen(key), NULL, 10);
}

int children_of(pid_t daemon, const char *comm, pid_t *ret, int max) {
    char path[64], *list = NULL, *name = NULL;
    size_t len;
    int n = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)daemon, (int)daemon);
    cr_assert_eq(tmp_read(path, &list, &len), 0);
    for (char *at = list, *end; *at; at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (end == at) {
            break;
        }
        snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
        if (tmp_read(path, &name, &len) == 0) {
            if (strncmp(name, comm, strlen(comm)) == 0 && n < max) {
                ret[n++] = pid;
            }
            free(name);
        }
    }
    free(list);
    return n;
}

bool gone(pid_t pid, int ms) {
    double until = now_ms() + ms;
    while (kill(pid, 0) == 0 || errno != ESRCH) {
        if (now_ms() > until) {
            return false;
        }
        sched_yield();
    }
    return true;
}

const char *trouble_module(void) {
    static char path[512];
    const char *build = getenv("HEARTH_BUILD");
    cr_assert(build != NULL, "HEARTH_BUILD is not set: run me by meson test");
    snprintf(path, sizeof(path), "%s/tests/daemon/mod_trouble.so", build);
    return path;
}
