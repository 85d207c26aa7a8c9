/* SPDX-License-Identifier: MIT */
/* queue, pipe, event, barrier: the rest of what processes wait for each other with, as verbs of a name.
 *
 * What waits waits for ever, unless --timeout or --nonblock says otherwise: exit status 9 then. An item got from a queue with leases
 * is on lease to this process for the moment in which it is printed; when that has failed, it goes back.
 *
 * Fails: exit statuses; 8 when the end of a queue or pipe is reached before anything was got. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"

static int64_t limit_of(const struct ctl_words *w) {
    return w->fresh ? 0 : w->ttl_ms ? (int64_t)w->ttl_ms : -1;
}

static struct hearth_bytes name_of(const struct ctl_words *w) {
    return hearth_text(w->v[0]);
}

/* The exit status of a call. Nothing in time is no news to a script that has set a time. */
static int end(struct ctl *c, int r) {
    return r == 0 ? CTL_OK : r == HEARTH_E_PENDING ? CTL_PENDING : ctl_failed(c, r);
}

static int print_number(uint64_t v) {
    printf("%llu\n", (unsigned long long)v);
    return CTL_OK;
}

static int show_info(struct ctl *c, const char *command, const struct ctl_words *w) {
    return ctl_show_each(c, command, w->v[0]);
}

/* ---- what goes in: words, or the lines of standard input ---- */

typedef int put_fn(struct ctl *c, const struct ctl_words *w, struct hearth_bytes item);

static int put_lines(struct ctl *c, const struct ctl_words *w, put_fn *put) {
    struct ctl_lines lines = {0};
    int status = CTL_OK;
    while (status == CTL_OK) {
        _cleanup_free_ char *line = NULL;
        size_t len = 0;
        int r = ctl_line(&lines, '\n', &line, &len);
        if (r == 0) {
            break;
        }
        if (r == -EAGAIN) {
            struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
            poll(&p, 1, -1);
            continue;
        }
        status = r < 0 ? ctl_say(c, CTL_LOCAL, "cannot read standard input: %s", strerror(-r))
                       : end(c, put(c, w, (struct hearth_bytes){line, len}));
    }
    free(lines.data);
    return status;
}

/* The file, the words from `first` on, or standard input. */
static int put_all(struct ctl *c, const struct ctl_words *w, size_t first, put_fn *put) {
    int status = ctl_connect(c);
    if (status == CTL_OK && w->file) {
        _cleanup_free_ char *data = NULL;
        size_t len = 0;
        return ctl_read_file(c, w->file, &data, &len)
                   ? end(c, put(c, w, (struct hearth_bytes){data, len}))
                   : CTL_LOCAL;
    }
    if (status == CTL_OK && w->n <= first) {
        return put_lines(c, w, put);
    }
    for (size_t i = first; i < w->n && status == CTL_OK; i++) {
        status = end(c, put(c, w, hearth_text(w->v[i])));
    }
    return status;
}

/* ---- what comes out: one, COUNT, or "all" until the end ---- */

/* Gets and prints one. */
typedef int get_fn(struct ctl *c, const struct ctl_words *w);

static int get_some(struct ctl *c, const struct ctl_words *w, size_t at, get_fn *get) {
    bool all = w->n > at && strcmp(w->v[at], "all") == 0;
    uint64_t count = 1, n = 0;
    int r = 0;
    if (w->n > at && !all && !ctl_count(c, w->v[at], UINT64_MAX, &count)) {
        return CTL_USAGE;
    }
    int status = ctl_connect(c);
    while (status == CTL_OK && r == 0 && (all || n < count)) {
        r = get(c, w);
        n += r == 0;
    }
    if (r == HEARTH_E_CLOSED) {
        return all ? CTL_OK : CTL_NOTASK;
    }
    return status ? status : end(c, r);
}

static int print_item(struct ctl *c, struct hearth_bytes b) {
    if (c->json) {
        putchar('{');
        json_bytes("data", b.data, b.len);
        puts("}");
    } else {
        ctl_print_line(b.data, b.len);
    }
    return fflush(stdout) == 0 ? 0 : -errno;
}

/* ---- queue ---- */

static int queue_create(struct ctl *c, struct ctl_words *w) {
    const struct hearth_queue_options o = {.max_items = w->most, .lease_ms = w->lease_ms};
    int status = ctl_connect(c);
    return status ? status : end(c, hearth_queue_create(c->h, name_of(w), &o, NULL));
}

static int put_item(struct ctl *c, const struct ctl_words *w, struct hearth_bytes item) {
    return hearth_queue_put(c->h, name_of(w), item, limit_of(w));
}

static int queue_put(struct ctl *c, struct ctl_words *w) {
    return put_all(c, w, 1, put_item);
}

static int get_item(struct ctl *c, const struct ctl_words *w) {
    struct hearth_bytes b;
    uint64_t lease;
    int r = hearth_queue_get(c->h, name_of(w), limit_of(w), &b, &lease);
    r = r ? r : print_item(c, b);
    return r || !lease ? r : hearth_queue_done(c->h, name_of(w), lease);
}

static int queue_get(struct ctl *c, struct ctl_words *w) {
    return get_some(c, w, 1, get_item);
}

static int queue_size(struct ctl *c, struct ctl_words *w) {
    struct hearth_queue_info info;
    int status = ctl_connect(c);
    status = status ? status : end(c, hearth_queue_info(c->h, name_of(w), &info));
    return status ? status : print_number(info.items);
}

static int queue_info(struct ctl *c, struct ctl_words *w) {
    return show_info(c, "QUEUE.INFO", w);
}

static int queue_join(struct ctl *c, struct ctl_words *w) {
    int status = ctl_connect(c);
    return status ? status : end(c, hearth_queue_join(c->h, name_of(w), limit_of(w)));
}

const struct ctl_verb ctl_queue_verbs[] = {
    {"create", "", "make it: --max, --lease", 0, 0, NULL, CTL_SHOW_NOTHING, queue_create},
    {"put", "[ITEM...]", "the words, --in FILE, or each line of standard input", 0, -1, NULL,
     CTL_SHOW_NOTHING, queue_put},
    {"get", "[N|all]", "take and print the oldest (all: until it is closed and empty)", 0, 1, NULL,
     CTL_SHOW_NOTHING, queue_get},
    {"size", "", "how many items are in it", 0, 0, NULL, CTL_SHOW_NOTHING, queue_size},
    {"info", "", "all that is known of it", 0, 0, NULL, CTL_SHOW_NOTHING, queue_info},
    {"done", "", "one of the items got has been dealt with", 0, 0, "QUEUE.TASKDONE",
     CTL_SHOW_NOTHING, NULL},
    {"join", "", "wait until all have been dealt with", 0, 0, NULL, CTL_SHOW_NOTHING, queue_join},
    {"close", "", "nothing more can be put", 0, 0, "QUEUE.CLOSE", CTL_SHOW_NOTHING, NULL},
    {0},
};

/* ---- pipe ---- */

static int end_of(const struct ctl_words *w) {
    const char *text = w->v[1];
    return (text[0] == '0' || text[0] == '1') && !text[1] ? text[0] - '0' : -1;
}

static int pipe_create(struct ctl *c, struct ctl_words *w) {
    int status = ctl_connect(c);
    return status ? status : end(c, hearth_pipe_create(c->h, name_of(w), !w->left, 0, NULL));
}

static int send_message(struct ctl *c, const struct ctl_words *w, struct hearth_bytes message) {
    return hearth_pipe_send(c->h, name_of(w), end_of(w), message, limit_of(w));
}

static int pipe_send(struct ctl *c, struct ctl_words *w) {
    if (end_of(w) < 0) {
        return ctl_usage(c, "the ends of a pipe are 0 and 1, not %s", w->v[1]);
    }
    int status = ctl_connect(c);
    status = status ? status : end(c, hearth_pipe_open(c->h, name_of(w), end_of(w)));
    return status ? status : put_all(c, w, 2, send_message);
}

static int receive(struct ctl *c, const struct ctl_words *w) {
    struct hearth_bytes b;
    int r = hearth_pipe_recv(c->h, name_of(w), end_of(w), limit_of(w), &b);
    return r ? r : print_item(c, b);
}

static int pipe_recv(struct ctl *c, struct ctl_words *w) {
    if (end_of(w) < 0) {
        return ctl_usage(c, "the ends of a pipe are 0 and 1, not %s", w->v[1]);
    }
    return get_some(c, w, 2, receive);
}

const struct ctl_verb ctl_pipe_verbs[] = {
    {"create", "", "make it, duplex or --simplex (from end 1 to end 0)", 0, 0, NULL,
     CTL_SHOW_NOTHING, pipe_create},
    {"send", "END [MESSAGE...]", "the words, --in FILE, or each line of standard input", 1, -1,
     NULL, CTL_SHOW_NOTHING, pipe_send},
    {"recv", "END [N|all]", "print the next (all: until the other end is closed)", 1, 2, NULL,
     CTL_SHOW_NOTHING, pipe_recv},
    {0},
};

/* ---- event, barrier ---- */

static int event_wait(struct ctl *c, struct ctl_words *w) {
    int status = ctl_connect(c);
    return status ? status : end(c, hearth_event_wait(c->h, name_of(w), limit_of(w)));
}

const struct ctl_verb ctl_event_verbs[] = {
    {"set", "", "let all go on that wait, and that will", 0, 0, "EVENT.SET", CTL_SHOW_NOTHING,
     NULL},
    {"clear", "", "let those wait that come", 0, 0, "EVENT.CLEAR", CTL_SHOW_NOTHING, NULL},
    {"test", "", "yes or no (exit status 8): is it set?", 0, 0, "EVENT.ISSET", CTL_SHOW_YES, NULL},
    {"wait", "", "until it is set", 0, 0, NULL, CTL_SHOW_NOTHING, event_wait},
    {0},
};

static int barrier_wait(struct ctl *c, struct ctl_words *w) {
    uint32_t index;
    int status = ctl_connect(c);
    status = status ? status : end(c, hearth_barrier_wait(c->h, name_of(w), limit_of(w), &index));
    return status ? status : print_number(index);
}

static int barrier_create(struct ctl *c, struct ctl_words *w) {
    uint64_t n;
    if (!ctl_count(c, w->v[1], UINT32_MAX, &n)) {
        return CTL_USAGE;
    }
    int status = ctl_connect(c);
    return status ? status : end(c, hearth_barrier_create(c->h, name_of(w), (uint32_t)n, NULL));
}

static int barrier_info(struct ctl *c, struct ctl_words *w) {
    return show_info(c, "BARRIER.INFO", w);
}

const struct ctl_verb ctl_barrier_verbs[] = {
    {"create", "N", "make it, for N that meet", 1, 1, NULL, CTL_SHOW_NOTHING, barrier_create},
    {"wait", "", "until all are there; prints who this is, 0 to N-1", 0, 0, NULL, CTL_SHOW_NOTHING,
     barrier_wait},
    {"reset", "", "make it as new", 0, 0, "BARRIER.RESET", CTL_SHOW_NOTHING, NULL},
    {"abort", "", "break it: nobody waits any more", 0, 0, "BARRIER.ABORT", CTL_SHOW_NOTHING, NULL},
    {"info", "", "all that is known of it", 0, 0, NULL, CTL_SHOW_NOTHING, barrier_info},
    {0},
};
