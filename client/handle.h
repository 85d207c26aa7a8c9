/* SPDX-License-Identifier: MIT */
/* The inside of a handle, shared by libhearth's sources and nobody else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "client/hearth.h"
#include "client/table.h"
#include "lib/base/buf.h"
#include "lib/base/yield.h"
#include "lib/shm/objects.h"
#include "lib/wire/resp.h"

enum {
    HANDLE_FLUSH = 64 * 1024,      /* output that is sent without waiting for a dispatch */
    HANDLE_READ = 64 * 1024,       /* least room of a read */
    HANDLE_TURN = 1024 * 1024,     /* input per hearth_dispatch() */
    HANDLE_KEEP = 4 * 1024 * 1024, /* buffers up to this size are kept when empty */
    HANDLE_DIRECT = 32 * 1024,     /* payloads of hearth_call() from this size on are not copied */
    HANDLE_SPIN_US = 50,
    CONN_GIVE = 3, /* descriptors that go out at once */
    RESUME_KEY = 64,
};

/* What a reply that has not come yet belongs to, in the order of the requests. */
enum request_kind {
    REQUEST_SUBMIT, /* task: one id */
    REQUEST_MANY,   /* task: the first of a chain of n, as many ids */
    REQUEST_SYNC,   /* someone waits for it in request_wait() */
    REQUEST_IGNORE, /* a cancel */
    REQUEST_NOTIFY, /* TASK.NOTIFY ON: without it no task would ever be heard of */
    REQUEST_FOLLOW, /* the same for tasks of a connection that was lost: those that are not known */
};

struct request {
    struct task *task;
    uint32_t n;
    enum request_kind kind;
};

/* Who waits for one task and hears what it tells: stream.c. */
struct live {
    hearth_data_fn fn; /* NULL: nobody */
    void *arg;
    char id[HEARTH_ID_MAX + 1]; /* empty: hearth_call()'s */
    bool ended;
    struct hearth_result end;
    char cause[512];
};

/* What is to go on after a lost connection: resume.c. */
struct resume {
    uint32_t limit_ms;          /* 0: nothing is */
    char prefix[40];            /* of the keys of this handle, ... */
    uint64_t keys;              /* ... of which there have been so many */
    struct request *unanswered; /* while it is lost */
    uint32_t n, cap;
};

struct hearth {
    int fd;
    int lost_for;     /* while it is lost: why, ... */
    uint64_t lost_ns; /* ... and since when */
    struct resume resume;
    bool lost;    /* the connection is; fd stays open for the event loop that may watch it */
    bool entered; /* a callback is running, or a function that calls callbacks */
    struct sockaddr_un addr;
    bool has_path;
    bool notified; /* TASK.NOTIFY ON has been asked for: before the first submission, not before */

    struct buf out;
    const void *
        direct; /* sent between out[0..direct_at) and the rest; the caller waits until it is gone */
    size_t direct_len, direct_at;

    struct buf in;
    size_t held; /* bytes at the head of in that the last result still points into */
    size_t need; /* no whole message before so many bytes are in */
    struct resp_doc doc;

    struct request *requests; /* a ring of request_cap (power of two) */
    uint32_t request_cap, request_head, request_count;
    struct table table;
    struct table
        early; /* ends that came before the id did, by id; arg is a struct early of task.c */

    int also_fd;                      /* conn_wait() also returns when this can be read; -1: none */
    uint32_t spin_skip, spin_penalty; /* see conn_wait() */
    struct yield yield;
    bool can_spin;

    /* the segment: attach.c */
    int attached, wanted; /* as hearth_attached() says; as hearth_reconnect() will do again */
    struct shm shm;
    struct objects objects;
    uint32_t daemon;      /* the owner word of the daemon's slot */
    uint64_t attach_turn; /* how often it has attached */
    bool takes_fds;       /* descriptors may come with the next reply */
    int fds[2], n_fds;
    const int *give; /* descriptors that go out with the next bytes, ... */
    int n_give;
    bool passes;                /* ... which the daemon has been told of: proc.c */
    struct hearth_bytes *items; /* object.c: what a reply's array holds */
    size_t items_cap;
    uint64_t *leases; /* sync_queue.c */
    size_t leases_cap;
    struct buf kept; /* transaction.c: what the operations found */

    struct live live;
    hearth_push_fn push_fn;
    void *push_arg;

    /* sync.c */
    uint64_t client_id; /* as the daemon knows the connection */
    hearth_interrupt_fn interrupt_fn;
    void *interrupt_arg;
    bool waits;       /* for a reply that a signal may end */
    bool interrupted; /* and it shall end */
    bool unblocked;   /* which the daemon knows */
    struct buf text;  /* causes that are put together; NUL-terminated */
    char message[512];
};

/* ---- conn.c: the socket ---- */
/* Connects and sets up buffers; the greeting is call.c's. 0 or -errno. */
int conn_open(struct hearth *h);
/* Sends what it can. 0, or lost (then conn_lose() has been called). */
int conn_flush(struct hearth *h);
/* Reads once. The number of bytes, 0: nothing there now; negative or positive error: lost. */
int conn_read(struct hearth *h, size_t *ret_n);
/* Whether input has been read that nobody has handled: what came in one piece with a reply. */
bool conn_has_input(const struct hearth *h);
/* Sends and waits until there is something to handle or to read or, with output left, written. deadline in
 * clock_now() terms, 0: now, UINT64_MAX: none. 0 (try), HEARTH_E_PENDING (deadline), -EINTR, or
 * lost. */
int conn_wait(struct hearth *h, uint64_t deadline);
/* conn_wait() and conn_read() in one, which without a deadline is one system call: the socket is
 * blocking, and whoever must not wait says so in each call. Goes on after signals. */
int conn_wait_read(struct hearth *h, uint64_t deadline, size_t *ret_n);
/* Marks the connection lost for a reason, and returns it. */
int conn_lose(struct hearth *h, int reason, const char *text);
/* Drops the bytes that the last result pointed into. */
void conn_release(struct hearth *h);

/* ---- command.c: requests ---- */
/* Appends a request's words. 0 or -ENOMEM. */
int command_put_head(struct hearth *h, size_t n_words);
int command_put(struct hearth *h, const void *word, size_t len);
int command_put_text(struct hearth *h, const char *word);
/* Forgets what was appended since out had len bytes: a request is sent whole or not at all. */
void command_undo(struct hearth *h, size_t len);
/* Notes that a reply is due. 0 or -ENOMEM. */
int command_expect(struct hearth *h, enum request_kind kind, struct task *task, uint32_t n);

/* ---- dispatch.c ---- */
/* Handles the messages in the input buffer; stops behind the reply of a REQUEST_SYNC (1), else 0
 * when there is no whole message left, or an error: lost. */
int dispatch_input(struct hearth *h);
/* Waits for the reply of the one REQUEST_SYNC sent last; it is h->doc then. 0 or an error. */
int dispatch_sync(struct hearth *h, uint64_t deadline);
/* One turn without waiting: sends, reads, calls callbacks. 0 or an error: lost. */
int dispatch_turn(struct hearth *h);
/* Calls every callback still outstanding, with HEARTH_DISCONNECTED; or, as long as the connection may be made again, only of those
 * tasks that cannot go on then. */
void dispatch_lost(struct hearth *h);
/* 0, or why a function that waits may not go on now. A lost connection is made again, if that is wanted. */
int dispatch_enter(struct hearth *h);
/* The same of one that does not wait. */
int dispatch_enter_now(struct hearth *h);
int dispatch_leave(struct hearth *h, int r);

/* ---- task.c ---- */
/* The reply to a SUBMIT or MSUBMIT. 0, HEARTH_E_PROTOCOL or -ENOMEM. */
int task_accepted(struct hearth *h, const struct request *q);
/* A push. As above. */
int task_pushed(struct hearth *h);
void task_end(struct hearth *h, struct task *t, struct hearth_result *r);
void task_drop_early(struct hearth *h);
/* Asks the daemon to cancel a task whose id is known. 0 or -ENOMEM. */
int task_put_cancel(struct hearth *h, const struct task *t);
/* Asks to be told of the ends of tasks. 0 or -ENOMEM. */
int task_put_notify(struct hearth *h);
/* Appends "TASK.CALL pool handler payload ARG.. TIMEOUT.." with the payload's bytes left out if
 * direct. key: of resume_key(), or NULL. */
int task_put_call(struct hearth *h, const struct hearth_task *task, bool direct, const char *key);

/* ---- call.c ---- */
/* Connects again, attaches again, and sends what is to go on. 0 or as hearth_reconnect(); not while h->entered. */
int call_connect(struct hearth *h, uint64_t deadline);

/* ---- resume.c ---- */
/* The connection is lost, and may be made again: it is wanted, and its time is not over. */
bool resume_may(const struct hearth *h);
/* A key for a task, if it is to go on after a lost connection and has none of its own; else NULL. */
const char *resume_key(struct hearth *h, const struct hearth_task *task, char out[RESUME_KEY]);
/* Can it be submitted again safely? The caller's own key does as well. */
bool resume_is_kept(const struct hearth_task *task, const char *key);
/* command_expect() of a submission, whose request is all that follows mark: keeps it, and while the connection is lost puts it
 * aside. 0, -ENOMEM, HEARTH_E_DISCONNECTED. */
int resume_expect(struct hearth *h, size_t mark, const struct hearth_task *task, const char *key,
                  const struct request *q);
/* The connection is lost: puts aside what was not answered; that which cannot be asked again ends. */
void resume_stash(struct hearth *h);
/* Nothing of it goes on. */
void resume_forget(struct hearth *h);
/* Appends what a new connection is to be told. 0, or lost. */
int resume_put(struct hearth *h);
/* The reply to a REQUEST_FOLLOW. 0 or HEARTH_E_PROTOCOL. */
int resume_followed(struct hearth *h);
void resume_end(struct hearth *h, struct task *t, const char *why);
/* For who waits with h->entered, of a lost connection: connects again. 0; HEARTH_E_PENDING: not by deadline; -EINTR: a signal;
 * HEARTH_E_DISCONNECTED: it is not wanted, or its time is over. */
int resume_wait(struct hearth *h, uint64_t deadline);
/* The same, without a deadline, and whatever signals come. True: it was lost, and is not any more. */
bool resume_again(struct hearth *h);

/* ---- stream.c ---- */
/* A push: handled, if it is of what a task tells. */
bool stream_pushed(struct hearth *h);
/* The end of the task that hearth_follow() waits for, if it is that one. */
void stream_ended(struct hearth *h, const char *id, size_t len, const struct hearth_result *r);

/* ---- attach.c ---- */
/* Closes descriptors that came with a reply and have not been taken. */
void attach_drop_fds(struct hearth *h);
/* Lets go of the segment. */
void attach_end(struct hearth *h);
/* After a reconnection: attaches again if it was; refused, the connection serves. */
void attach_again(struct hearth *h);
/* Is this to be done in memory? False also when the daemon has died: the connection then says so. */
bool attach_can(struct hearth *h, bool change);

/* ---- sync.c ---- */
/* A signal handler has run while the handle waits for a reply. */
void wait_signalled(struct hearth *h);

/* ---- result.c: replies to results ---- */
/* An error reply as a HEARTH_E_ code, its words in h->message. */
int result_error(struct hearth *h, const struct resp_value *v);
/* Fills status, data, cause from three values [status, result, cause]. HEARTH_E_PROTOCOL if they
 * are not. */
int result_fill(struct hearth *h, const struct resp_value *status, struct hearth_result *ret);
/* Fills from an error reply to TASK.CALL: -FAILED, -LOST, -TIMEOUT, -CANCELLED; else
 * result_error()'s code. */
int result_call_error(struct hearth *h, const struct resp_value *v, struct hearth_result *ret);
void result_init(struct hearth_result *r);
/* Makes texts end in NUL in place and sibling indexes relative, which hearth_reply_next() needs. */
void result_seal(struct resp_doc *d);
/* Sets h->message; returns error. */
int result_say(struct hearth *h, int error, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static inline const struct resp_value *value_next(const struct resp_value *v) {
    return v + v->next;
}
static inline bool value_is_text(const struct resp_value *v) {
    return v->type == RESP_BULK || v->type == RESP_SIMPLE || v->type == RESP_VERBATIM;
}
