/* SPDX-License-Identifier: MIT */
/* libhearth where the real daemon cannot be made to misbehave: the test is the server, one end of a
 * socket pair, and writes what it likes before the client looks. What the daemon really answers is
 * tests/daemon/test_client's. */
#include "client/hearth.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/child.h"

static int server = -1;
static struct hearth *h;

static void say(const void *data, size_t len) {
    cr_assert_eq(write(server, data, len), (ssize_t)len);
}

static void say_text(const char *text) {
    say(text, strlen(text));
}

static void begin(void) {
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    server = fds[0];
    say_text("%1\r\n$6\r\nserver\r\n$6\r\nhearth\r\n");
    cr_assert_eq(hearth_connect_fd(fds[1], &h), 0);
}

/* For tests that begin with a submission, before which TASK.NOTIFY is sent. */
static void begin_submitting(void) {
    begin();
    say_text("+OK\r\n");
}

static void end(void) {
    hearth_close(h);
    h = NULL;
    if (server >= 0) {
        close(server);
    }
    server = -1;
    child_kill_all();
}

TestSuite(client, .init = begin, .fini = end, .timeout = 20);
TestSuite(client_tasks, .init = begin_submitting, .fini = end, .timeout = 20);

/* What the callbacks were told, in order, as "index:id:status:data:cause|". */
static char seen[4096];
static size_t n_seen;

static void note(struct hearth *handle, const struct hearth_result *r, void *arg) {
    (void)handle;
    size_t at = strlen(seen);
    snprintf(seen + at, sizeof(seen) - at, "%zu:%s:%s:%s:%s|", r->index, r->id,
             hearth_status_name(r->status), r->len < 100 ? r->data : "(long)", r->cause);
    n_seen++;
    if (arg) {
        *(struct hearth_result *)arg = *r;
    }
}

static const struct hearth_task echo = {
    .pool = "demo", .handler = "echo", .payload = "hi", .payload_len = 2};

/* The request as the server gets it. */
static const char *heard(void) {
    static char text[4096];
    ssize_t n = recv(server, text, sizeof(text) - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

Test(client_tasks, greets_and_submits_in_the_protocols_words) {
    const char *args[] = {"-9", "x y"};
    struct hearth_task task = echo;
    task.args = args;
    task.n_args = 2;
    task.timeout_ms = 500;
    cr_assert_str_eq(heard(), "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n");
    cr_assert_eq(hearth_submit(h, &task, note, NULL, NULL), 0);
    cr_assert_eq(hearth_events(h), POLLIN | POLLOUT);
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_str_eq(heard(),
                     "*2\r\n$11\r\nTASK.NOTIFY\r\n$2\r\nON\r\n"
                     "*10\r\n$11\r\nTASK.SUBMIT\r\n$4\r\ndemo\r\n$4\r\necho\r\n$2\r\nhi\r\n"
                     "$3\r\nARG\r\n$2\r\n-9\r\n$3\r\nARG\r\n$3\r\nx y\r\n"
                     "$7\r\nTIMEOUT\r\n$3\r\n500\r\n");
    cr_assert_eq(hearth_events(h), POLLIN);
    cr_assert_eq(hearth_pending(h), 1);
}

Test(client_tasks, an_end_may_come_before_the_id) {
    cr_assert_eq(hearth_submit(h, &echo, note, NULL, NULL), 0);
    cr_assert_eq(hearth_submit(h, &echo, note, NULL, NULL), 0);
    say_text(">5\r\n$9\r\ntask.done\r\n$3\r\nb-2\r\n$4\r\ndone\r\n$3\r\ntwo\r\n$0\r\n\r\n");
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_eq(n_seen, 0);
    say_text("$3\r\na-1\r\n");
    say_text(">5\r\n$9\r\ntask.done\r\n$3\r\na-1\r\n$6\r\nfailed\r\n_\r\n$11\r\nerror 3: no\r\n");
    say_text("$3\r\nb-2\r\n");
    cr_assert_eq(hearth_run(h, 1000), 0);
    cr_assert_str_eq(seen, "0:a-1:failed::error 3: no|0:b-2:done:two:|");
    cr_assert_eq(hearth_pending(h), 0);
}

Test(client_tasks, a_refused_submission_is_told_to_its_callback) {
    struct hearth_result r;
    cr_assert_eq(hearth_submit(h, &echo, note, &r, NULL), 0);
    say_text("-BUSY the queue of pool demo is full\r\n");
    cr_assert_eq(hearth_run(h, 1000), 0);
    cr_assert_eq(r.status, HEARTH_REFUSED);
    cr_assert_eq(r.error, HEARTH_E_BUSY);
    cr_assert_str_eq(seen, "0::refused::BUSY the queue of pool demo is full|");
}

Test(client_tasks, a_lost_connection_is_told_once_with_the_ids) {
    cr_assert_eq(hearth_submit(h, &echo, note, NULL, NULL), 0);
    cr_assert_eq(hearth_submit(h, &echo, note, NULL, NULL), 0);
    say_text("$3\r\na-1\r\n>5\r\n$9\r\ntask.d"); /* in the middle of a push */
    close(server);
    server = -1;
    cr_assert_eq(hearth_run(h, 1000), HEARTH_E_DISCONNECTED);
    cr_assert_eq(n_seen, 2);
    cr_assert(strstr(seen, "0:a-1:disconnected::"));
    cr_assert(strstr(seen, "0::disconnected::"));
    cr_assert_eq(hearth_submit(h, &echo, note, NULL, NULL), HEARTH_E_DISCONNECTED);
    cr_assert_eq(hearth_dispatch(h), HEARTH_E_DISCONNECTED);
    cr_assert_eq(hearth_events(h), 0);
    cr_assert_eq(hearth_reconnect(h), -ENOTSUP);
    cr_assert_eq(n_seen, 2);
}

Test(client, a_lost_connection_ends_a_blocking_call) {
    struct hearth_result r = {.status = HEARTH_DONE};
    say_text("$1000\r\nhalf");
    shutdown(server, SHUT_WR);
    cr_assert_eq(hearth_call(h, &echo, &r), HEARTH_E_DISCONNECTED);
    cr_assert_eq(hearth_call(h, &echo, &r), HEARTH_E_DISCONNECTED);
    cr_assert(strstr(hearth_errmsg(h), "closed"));
}

Test(client_tasks, garbage_ends_the_connection_and_every_task) {
    cr_assert_eq(hearth_submit(h, &echo, note, NULL, NULL), 0);
    say_text("HTTP/1.1 400 Bad Request\r\n\r\n");
    cr_assert_eq(hearth_run(h, 1000), HEARTH_E_PROTOCOL);
    cr_assert_eq(n_seen, 1);
    cr_assert(strstr(hearth_errmsg(h), "not Hearth's protocol"));
}

Test(client_tasks, replies_of_the_wrong_shape_are_refused) {
    static const char *const bad[] = {
        ":1\r\n",                                               /* an id that is a number */
        "$0\r\n\r\n",                                           /* empty */
        "+a\r\n>5\r\n+task.done\r\n+a\r\n+gone\r\n_\r\n+x\r\n", /* an unknown status */
        "+a\r\n+b\r\n",                                         /* a reply too many */
        ">5\r\n+task.done\r\n:7\r\n+done\r\n_\r\n+x\r\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        end();
        begin_submitting();
        n_seen = 0;
        cr_assert_eq(hearth_submit(h, &echo, note, NULL, NULL), 0);
        say_text(bad[i]);
        cr_assert_eq(hearth_run(h, 1000), HEARTH_E_PROTOCOL, "case %zu", i);
        cr_assert_eq(n_seen, 1, "case %zu", i);
    }
}

struct huge {
    int fd;
    size_t len;
};

static int send_huge(void *arg) {
    struct huge *g = arg;
    char head[64], piece[7777];
    memset(piece, 'x', sizeof(piece));
    int n = snprintf(head, sizeof(head), "$%zu\r\n", g->len);
    if (write(g->fd, head, (size_t)n) != n) {
        return 1;
    }
    for (size_t left = g->len; left > 0;) {
        ssize_t w = write(g->fd, piece, left < sizeof(piece) ? left : sizeof(piece));
        if (w < 0) {
            return 2;
        }
        left -= (size_t)w;
    }
    return write(g->fd, "\r\n+OK\r\n", 7) == 7 ? 0 : 3;
}

Test(client, a_huge_result_in_pieces) {
    struct huge g = {server, 20000000};
    pid_t pid = child_start(send_huge, &g);
    cr_assert_gt(pid, 0);
    struct hearth_result r;
    cr_assert_eq(hearth_call(h, &echo, &r), 0);
    cr_assert_eq(r.status, HEARTH_DONE);
    cr_assert_eq(r.len, 20000000);
    cr_assert(r.data[0] == 'x' && r.data[r.len - 1] == 'x' && r.data[r.len] == 0);
    const char *ping[] = {"PING"};
    const struct hearth_reply *reply;
    cr_assert_eq(hearth_command(h, 1, ping, NULL, &reply), 0);
    cr_assert_str_eq(hearth_reply_text(reply, NULL), "OK");
    cr_assert_eq(child_wait(pid), 0);
}

static int drain(void *arg) {
    struct huge *g = arg;
    char buf[65536];
    size_t total = 0;
    while (total < g->len) {
        ssize_t n = read(g->fd, buf, sizeof(buf));
        if (n <= 0) {
            return 1;
        }
        total += (size_t)n;
    }
    return write(g->fd, "+OK\r\n", 5) == 5 ? 0 : 2;
}

Test(client_tasks, a_large_payload_is_sent_around_what_is_queued) {
    size_t len = 5000000;
    char *payload = malloc(len);
    cr_assert_not_null(payload);
    memset(payload, 'p', len);
    struct hearth_task task = echo;
    task.payload = payload;
    task.payload_len = len;
    heard();
    cr_assert_eq(hearth_submit(h, &echo, note, NULL, NULL), 0); /* waits in the output buffer */
    size_t submit = strlen("*4\r\n$11\r\nTASK.SUBMIT\r\n$4\r\ndemo\r\n$4\r\necho\r\n$2\r\nhi\r\n");
    size_t call =
        strlen("*4\r\n$9\r\nTASK.CALL\r\n$4\r\ndemo\r\n$4\r\necho\r\n$5000000\r\n\r\n") + len;
    say_text("+a-1\r\n");
    struct huge g = {server, submit + call};
    pid_t pid = child_start(drain, &g);
    struct hearth_result r;
    cr_assert_eq(hearth_call(h, &task, &r), 0);
    cr_assert_str_eq(r.data, "OK");
    cr_assert_eq(child_wait(pid), 0);
    free(payload);
}

Test(client, ends_of_a_call_are_told_alike) {
    struct hearth_result r;
    say_text("-FAILED 2 exit status 2\r\n");
    cr_assert_eq(hearth_call(h, &echo, &r), 0);
    cr_assert_eq(r.code, 2);
    cr_assert_str_eq(r.cause, "exit status 2");
    say_text("-FAILED 9 signal 9 (SIGKILL)\r\n");
    cr_assert_eq(hearth_call(h, &echo, &r), 0);
    cr_assert_eq(r.code, 0);
    cr_assert_str_eq(r.cause, "signal 9 (SIGKILL)");
    say_text("-FAILED 3 no such file\r\n");
    cr_assert_eq(hearth_call(h, &echo, &r), 0);
    cr_assert_eq(r.status, HEARTH_FAILED);
    cr_assert_eq(r.code, 3);
    cr_assert_str_eq(r.cause, "error 3: no such file");
    say_text("-LOST signal 9 (SIGKILL)\r\n");
    cr_assert_eq(hearth_call(h, &echo, &r), 0);
    cr_assert_eq(r.status, HEARTH_LOST);
    cr_assert_str_eq(r.cause, "signal 9 (SIGKILL)");
    say_text("-NOHANDLER pool demo has no handler echo\r\n");
    cr_assert_eq(hearth_call(h, &echo, &r), HEARTH_E_NOHANDLER);
    cr_assert_str_eq(hearth_errmsg(h), "NOHANDLER pool demo has no handler echo");
    say_text("-LOSTCAUSE x\r\n");
    cr_assert_eq(hearth_call(h, &echo, &r), HEARTH_E_REFUSED);
}

static void resubmit(struct hearth *handle, const struct hearth_result *r, void *arg) {
    int *left = arg;
    struct hearth_result other;
    n_seen++;
    cr_assert_eq(r->status, HEARTH_DONE);
    cr_assert_eq(hearth_dispatch(handle), -EDEADLK);
    cr_assert_eq(hearth_call(handle, &echo, &other), -EDEADLK);
    if (--*left > 0) {
        cr_assert_eq(hearth_submit(handle, &echo, resubmit, left, NULL), 0);
    }
}

Test(client_tasks, callbacks_may_submit_but_not_wait) {
    int left = 3;
    cr_assert_eq(hearth_submit(h, &echo, resubmit, &left, NULL), 0);
    for (int i = 0; i < 3; i++) {
        char text[200];
        snprintf(text, sizeof(text),
                 "+t-%d\r\n>5\r\n+task.done\r\n+t-%d\r\n+done\r\n$1\r\nx\r\n+\r\n", i, i);
        say_text(text);
        cr_assert_eq(hearth_dispatch(h), 0);
    }
    cr_assert_eq(n_seen, 3);
}

Test(client_tasks, many_are_all_accepted_or_all_refused) {
    const struct hearth_bytes payloads[] = {{"a", 1}, {"b", 1}, {NULL, 0}};
    uint64_t tickets[3];
    cr_assert_eq(hearth_submit_many(h, &echo, payloads, 3, note, NULL, tickets), 0);
    cr_assert_str_eq(hearth_ticket_id(h, tickets[1]), "");
    say_text("*3\r\n+i1\r\n+i2\r\n+i3\r\n");
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_str_eq(hearth_ticket_id(h, tickets[1]), "i2");
    say_text(">5\r\n+task.done\r\n+i3\r\n+done\r\n$1\r\nC\r\n+\r\n");
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_null(hearth_ticket_id(h, tickets[2]));
    cr_assert_eq(hearth_cancel(h, tickets[2]), HEARTH_E_NOTASK);
    cr_assert_str_eq(seen, "2:i3:done:C:|");
    cr_assert_eq(hearth_submit_many(h, &echo, payloads, 2, note, NULL, NULL), 0);
    say_text("-OOM segment full\r\n");
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_eq(n_seen, 3);
    cr_assert_eq(hearth_pending(h), 2);
}

Test(client_tasks, a_cancel_waits_for_the_id) {
    uint64_t ticket;
    heard();
    cr_assert_eq(hearth_submit(h, &echo, note, NULL, &ticket), 0);
    cr_assert_eq(hearth_cancel(h, ticket), 0);
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_null(strstr(heard(), "CANCEL"));
    say_text("+c-1\r\n");
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_str_eq(heard(), "*2\r\n$11\r\nTASK.CANCEL\r\n$3\r\nc-1\r\n");
    say_text(":1\r\n>5\r\n+task.done\r\n+c-1\r\n+cancelled\r\n_\r\n+cancelled by client 7\r\n");
    cr_assert_eq(hearth_run(h, 1000), 0);
    cr_assert_str_eq(seen, "0:c-1:cancelled::cancelled by client 7|");
}

static void on_push(struct hearth *handle, const struct hearth_reply *push, void *arg) {
    (void)handle;
    snprintf(arg, 100, "%s %zu", hearth_reply_text(hearth_reply_first(push), NULL),
             hearth_reply_count(push));
}

Test(client, other_pushes_go_to_who_asked) {
    char text[100] = "";
    const char *words[] = {"SUBSCRIBE", "tasks:1"};
    const struct hearth_reply *reply;
    hearth_on_push(h, on_push, text);
    cr_assert_eq(hearth_command(h, 2, words, NULL, &reply), 0);
    cr_assert_null(reply);
    say_text(">3\r\n+subscribe\r\n+tasks:1\r\n:1\r\n");
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_str_eq(text, "subscribe 3");
    words[0] = "RESET";
    cr_assert_eq(hearth_command(h, 1, words, NULL, &reply), -EOPNOTSUPP);
}

Test(client, replies_can_be_walked) {
    const char *words[] = {"X"};
    const struct hearth_reply *r;
    say_text("*3\r\n%2\r\n+a\r\n:1\r\n+b\r\n*2\r\n:7\r\n,1.5\r\n_\r\n#t\r\n");
    cr_assert_eq(hearth_command(h, 1, words, NULL, &r), 0);
    cr_assert_eq(hearth_reply_count(r), 3);
    const struct hearth_reply *map = hearth_reply_first(r);
    cr_assert_eq(hearth_reply_type(map), HEARTH_REPLY_MAP);
    cr_assert_eq(hearth_reply_count(map), 2);
    cr_assert_eq(hearth_reply_int(hearth_reply_get(map, "a")), 1);
    const struct hearth_reply *list = hearth_reply_get(map, "b");
    cr_assert_eq(hearth_reply_double(hearth_reply_next(hearth_reply_first(list))), 1.5);
    cr_assert_null(hearth_reply_get(map, "c"));
    const struct hearth_reply *null = hearth_reply_next(map);
    cr_assert_eq(hearth_reply_type(null), HEARTH_REPLY_NULL);
    cr_assert_eq(hearth_reply_int(hearth_reply_next(null)), 1);
    cr_assert_eq(hearth_reply_count(NULL), 0);
    cr_assert_str_eq(hearth_reply_text(NULL, NULL), "");
}

/* ---- map, with a server that does what the test needs ---- */

static void serve_line(int fd, const char *text) {
    if (write(fd, text, strlen(text)) < 0) {
        _exit(9);
    }
}

static void serve_end(int fd, int id) {
    char line[100];
    snprintf(line, sizeof(line), ">5\r\n+task.done\r\n+m-%d\r\n+done\r\n$1\r\nx\r\n+\r\n", id);
    serve_line(fd, line);
}

/* Refuses `b` and `c` as busy once each, and ends `d` after `e`. */
static int serve_map(void *arg) {
    static const char request[] = "TASK.SUBMIT\r\n$4\r\ndemo\r\n$4\r\necho\r\n$1\r\n";
    static char text[65536];
    int fd = *(int *)arg, n = 0, busy = 0, d = -1;
    size_t len = 0;
    for (;;) {
        ssize_t r = read(fd, text + len, sizeof(text) - len - 1);
        if (r <= 0) {
            return 0;
        }
        len += (size_t)r;
        text[len] = 0;
        char *at = text, *next;
        while ((next = strstr(at, request)) && next[sizeof(request) - 1]) {
            char line[100], payload = next[sizeof(request) - 1];
            at = next + sizeof(request) - 1;
            if (payload >= 'b' && payload <= 'c' && busy < 2) {
                busy++;
                serve_line(fd, "-BUSY full\r\n");
                continue;
            }
            snprintf(line, sizeof(line), "+m-%d\r\n", n);
            serve_line(fd, line);
            if (payload == 'd') {
                d = n;
            } else {
                serve_end(fd, n);
            }
            if (payload == 'e') {
                serve_end(fd, d);
            }
            n++;
        }
        len = strlen(at);
        memmove(text, at, len);
    }
}

static int take(void *arg, const struct hearth_result *r) {
    char *order = arg;
    size_t n = strlen(order);
    order[n] = (char)('0' + r->index);
    order[n + 1] = 0;
    return r->status == HEARTH_DONE ? 0 : 77;
}

static void map_over_six(int ordered, char *order) {
    const struct hearth_bytes payloads[] = {{"a", 1}, {"b", 1}, {"c", 1},
                                            {"d", 1}, {"e", 1}, {"f", 1}};
    heard();
    pid_t pid = child_start(serve_map, &server);
    struct hearth_map map = {.task = echo,
                             .payloads = payloads,
                             .n = 6,
                             .done = take,
                             .arg = order,
                             .ordered = ordered,
                             .window = 3};
    cr_assert_eq(hearth_map(h, &map), 0);
    cr_assert_eq(hearth_pending(h), 0);
    cr_assert_eq(strlen(order), 6);
    child_kill(pid);
}

Test(client_tasks, a_map_meets_busy_by_trying_again) {
    char order[10] = "";
    map_over_six(0, order);
    cr_assert_str_eq(order, "012435");
}

Test(client_tasks, an_ordered_map_delivers_in_order) {
    char order[10] = "";
    map_over_six(1, order);
    cr_assert_str_eq(order, "012345");
}

static int stop_now(void *arg) {
    return ++*(int *)arg >= 2 ? 42 : 0;
}
static int never(void *arg, const struct hearth_result *r) {
    (void)arg;
    (void)r;
    return 1;
}

Test(client_tasks, a_map_stops_when_told_and_cancels) {
    const struct hearth_bytes payloads[] = {{"a", 1}, {"b", 1}};
    int ticks = 0;
    heard();
    say_text("+m-0\r\n+m-1\r\n");
    struct hearth_map map = {.task = echo,
                             .payloads = payloads,
                             .n = 2,
                             .done = never,
                             .tick = stop_now,
                             .tick_ms = 1,
                             .arg = &ticks};
    cr_assert_eq(hearth_map(h, &map), 42);
    const char *text = heard();
    cr_assert(strstr(text, "TASK.CANCEL\r\n$3\r\nm-0") && strstr(text, "TASK.CANCEL\r\n$3\r\nm-1"));
    say_text(":1\r\n:1\r\n>5\r\n+task.done\r\n+m-0\r\n+cancelled\r\n_\r\n+x\r\n");
    cr_assert_eq(hearth_dispatch(h), 0);
    cr_assert_eq(hearth_pending(h), 1);
}

Test(client_tasks, a_map_that_loses_the_connection_tells_each) {
    const struct hearth_bytes payloads[] = {{"a", 1}, {"b", 1}, {"c", 1}};
    char order[10] = "";
    say_text("+m-0\r\n-BUSY\r\n");
    shutdown(server, SHUT_WR);
    struct hearth_map map = {.task = echo,
                             .payloads = payloads,
                             .n = 3,
                             .done = take,
                             .arg = order,
                             .ordered = 1,
                             .window = 2};
    cr_assert_eq(hearth_map(h, &map), 77); /* what take() returned for the first */
    cr_assert_eq(hearth_pending(h), 0);
}

Test(client_connect, errors_are_told) {
    struct hearth *handle = NULL;
    char path[300];
    memset(path, 'x', sizeof(path) - 1);
    path[299] = 0;
    cr_assert_eq(hearth_connect(path, &handle), -ENAMETOOLONG);
    cr_assert_eq(hearth_connect("/nonexistent/socket", &handle), -ENOENT);
    cr_assert_null(handle);
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    server = fds[0];
    say_text("-ERR unknown command 'HELLO'\r\n");
    cr_assert_eq(hearth_connect_fd(fds[1], &handle), HEARTH_E_PROTOCOL);
    close(server);
    server = -1;
    for (int e = -200; e < 20; e++) {
        cr_assert(hearth_strerror(e)[0]);
    }
}
