/* SPDX-License-Identifier: MIT */
/* Job servers to compare with: gearmand, Redis lists and beanstalkd, each with two workers that give back what they are given.
 *
 * All three are spoken to directly, by one client and one worker for which a protocol is a table of functions: what to send to
 * begin with, how a message looks, what to answer a job with. Nothing stands between the servers and what they can do: no
 * library, everything that may be sent at once is sent at once, and bytes are written only when there is nothing left to read.
 * gearmand keeps the jobs and their results on one connection; with the others a result is a job of a second queue, and who
 * waits for one blocks its connection, so that the client has two.
 *
 * Servers are on Unix sockets where they can be, else on a free port of the loopback; each has its own temporary directory,
 * and it and its workers are ended by their pids.
 *
 * Fails: what did not work is said on stderr and returned; a server that is not installed is 0 from queue_open(). */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "tests/bench/bench.h"
#include "tests/bench/peers.h"
#include "tests/support/child.h"

enum msg_kind {
    MSG_OTHER, /* an acknowledgement */
    MSG_JOB,   /* for a worker a job, for the client a result */
    MSG_NONE,  /* there is no job now */
    MSG_WAKE,  /* there may be one */
};
struct msg {
    enum msg_kind kind;
    const char *id;
    size_t id_len;
    const char *data;
    size_t len;
};

struct queue_protocol {
    /* Words of the command that starts the server; %s is its socket. port: a TCP port follows this word instead. */
    const char *const *argv;
    bool by_port;
    bool two_connections;
    /* Bytes of the first message: their number, 0: it is not complete, -EPROTO. */
    long (*parse)(const char *in, size_t len, struct msg *m);
    const char *worker_hello, *client_hello, *results_hello;
    size_t worker_hello_len;
    void (*submit)(struct buf *out, const char *data, size_t len);
    void (*expect)(struct buf *results);                    /* with each job submitted */
    void (*took)(struct buf *results, const struct msg *m); /* after each result */
    void (*answer)(struct buf *out, const struct msg *m);   /* of a worker, to whatever it reads */
};

static void put(struct buf *b, const void *data, size_t len) {
    if (buf_append(b, data, len) < 0) {
        abort();
    }
}
static void put_text(struct buf *b, const char *text) {
    put(b, text, strlen(text));
}

static void nothing(struct buf *out) {
    (void)out;
}
static void no_answer(struct buf *out, const struct msg *m) {
    (void)out;
    (void)m;
}

/* ---- gearmand's binary protocol ---- */

enum {
    GEARMAN_PRE_SLEEP = 4,
    GEARMAN_NOOP = 6,
    GEARMAN_SUBMIT = 7,
    GEARMAN_GRAB = 9,
    GEARMAN_NO_JOB = 10,
    GEARMAN_ASSIGN = 11,
    GEARMAN_COMPLETE = 13,
    GEARMAN_ERROR = 19,
    GEARMAN_HEADER = 12
};

static void gearman_header(struct buf *out, unsigned type, size_t len) {
    uint32_t words[2] = {htonl(type), htonl((uint32_t)len)};
    put(out, "\0REQ", 4);
    put(out, words, sizeof(words));
}

static long gearman_parse(const char *in, size_t len, struct msg *m) {
    uint32_t words[2];
    if (len < GEARMAN_HEADER) {
        return 0;
    }
    memcpy(words, in + 4, sizeof(words));
    unsigned type = ntohl(words[0]);
    size_t body = ntohl(words[1]);
    if (len < GEARMAN_HEADER + body) {
        return 0;
    }
    const char *at = in + GEARMAN_HEADER, *end = at + body;
    *m = (struct msg){.kind = type == GEARMAN_NO_JOB ? MSG_NONE
                              : type == GEARMAN_NOOP ? MSG_WAKE
                                                     : MSG_OTHER};
    if (type == GEARMAN_ASSIGN || type == GEARMAN_COMPLETE) {
        m->kind = MSG_JOB;
        m->id = at;
        for (int skip = type == GEARMAN_ASSIGN ? 2 : 1; skip > 0 && at; skip--) {
            const char *nul = memchr(at, '\0', (size_t)(end - at));
            m->id_len = m->id == at && nul ? (size_t)(nul - at) : m->id_len;
            at = nul ? nul + 1 : NULL;
        }
        m->data = at;
        m->len = at ? (size_t)(end - at) : 0;
    }
    return type == GEARMAN_ERROR || !at ? -EPROTO : (long)(GEARMAN_HEADER + body);
}

static void gearman_submit(struct buf *out, const char *data, size_t len) {
    gearman_header(out, GEARMAN_SUBMIT, 3 + len);
    put(out, "w\0\0", 3);
    put(out, data, len);
}

static void gearman_answer(struct buf *out, const struct msg *m) {
    if (m->kind == MSG_JOB) {
        gearman_header(out, GEARMAN_COMPLETE, m->id_len + 1 + m->len);
        put(out, m->id, m->id_len);
        put(out, "", 1);
        put(out, m->data, m->len);
    }
    if (m->kind == MSG_NONE) {
        gearman_header(out, GEARMAN_PRE_SLEEP, 0);
    } else if (m->kind != MSG_OTHER) {
        gearman_header(out, GEARMAN_GRAB, 0);
    }
}

/* Not in everybody's PATH. */
static const char *const gearman_argv[] = {
    "/usr/sbin/gearmand", "-L", "127.0.0.1", "-l", "none", "-P", "%s.pid", "-p", NULL};
/* CAN_DO w, GRAB_JOB */
static const char gearman_worker[] = "\0REQ\0\0\0\1\0\0\0\1w\0REQ\0\0\0\11\0\0\0\0";

const struct queue_protocol queue_gearmand = {
    .argv = gearman_argv,
    .by_port = true,
    .parse = gearman_parse,
    .worker_hello = gearman_worker,
    .worker_hello_len = sizeof(gearman_worker) - 1,
    .submit = gearman_submit,
    .expect = nothing,
    .took = no_answer,
    .answer = gearman_answer,
};

/* ---- Redis: two lists ---- */

/* "$len\r\nbytes\r\n" at *at: moves behind it. 1, 0: not complete, -EPROTO. */
static int redis_bulk(const char **at, const char *end, const char **data, size_t *len) {
    const char *line = memchr(*at, '\n', (size_t)(end - *at));
    if (!line) {
        return 0;
    }
    if (**at != '$') {
        return -EPROTO;
    }
    size_t n = strtoul(*at + 1, NULL, 10);
    if ((size_t)(end - line - 1) < n + 2) {
        return 0;
    }
    *data = line + 1;
    *len = n;
    *at = line + 1 + n + 2;
    return 1;
}

static long redis_parse(const char *in, size_t len, struct msg *m) {
    const char *at = memchr(in, '\n', len), *end = in + len;
    if (!at) {
        return 0;
    }
    at++;
    *m = (struct msg){.kind = MSG_OTHER};
    if (*in == ':') {
        return at - in;
    }
    int r = *in == '*' ? redis_bulk(&at, end, &m->id, &m->id_len) : -EPROTO;
    r = r == 1 ? redis_bulk(&at, end, &m->data, &m->len) : r;
    m->kind = MSG_JOB;
    return r == 1 ? at - in : r;
}

static void redis_push(struct buf *out, const char *list, const char *data, size_t len) {
    char head[64];
    snprintf(head, sizeof(head), "*3\r\n$5\r\nRPUSH\r\n$4\r\n%s\r\n$%zu\r\n", list, len);
    put_text(out, head);
    put(out, data, len);
    put(out, "\r\n", 2);
}

#define REDIS_TAKE(list) "*3\r\n$5\r\nBLPOP\r\n$4\r\n" list "\r\n$1\r\n0\r\n"

static void redis_submit(struct buf *out, const char *data, size_t len) {
    redis_push(out, "jobs", data, len);
}
static void redis_expect(struct buf *out) {
    put_text(out, REDIS_TAKE("done"));
}
static void redis_answer(struct buf *out, const struct msg *m) {
    if (m->kind == MSG_JOB) {
        redis_push(out, "done", m->data, m->len);
        put_text(out, REDIS_TAKE("jobs"));
    }
}

static const char *const redis_argv[] = {
    "redis-server", "--port",      "0",  "--save",       "",   "--appendonly",
    "no",           "--daemonize", "no", "--unixsocket", "%s", NULL};

const struct queue_protocol queue_redis = {
    .argv = redis_argv,
    .two_connections = true,
    .parse = redis_parse,
    .worker_hello = REDIS_TAKE("jobs"),
    .worker_hello_len = sizeof(REDIS_TAKE("jobs")) - 1,
    .submit = redis_submit,
    .expect = redis_expect,
    .took = no_answer,
    .answer = redis_answer,
};

/* ---- beanstalkd: two tubes ---- */

static long beanstalkd_parse(const char *in, size_t len, struct msg *m) {
    static const char *const fine[] = {"INSERTED ", "DELETED\r", "USING ", "WATCHING "};
    const char *line = memchr(in, '\n', len);
    if (!line) {
        return 0;
    }
    line++;
    *m = (struct msg){.kind = MSG_OTHER};
    for (size_t i = 0; i < ARRAY_SIZE(fine); i++) {
        if (strncmp(in, fine[i], strlen(fine[i])) == 0) {
            return line - in;
        }
    }
    if (strncmp(in, "RESERVED ", 9) != 0) {
        return -EPROTO;
    }
    char *end;
    strtoul(in + 9, &end, 10);
    *m =
        (struct msg){.kind = MSG_JOB, .id = in + 9, .id_len = (size_t)(end - in - 9), .data = line};
    m->len = strtoul(end, NULL, 10);
    size_t all = (size_t)(line - in) + m->len + 2;
    return len < all ? 0 : (long)all;
}

static void beanstalkd_submit(struct buf *out, const char *data, size_t len) {
    char head[64];
    snprintf(head, sizeof(head), "put 0 0 600 %zu\r\n", len);
    put_text(out, head);
    put(out, data, len);
    put(out, "\r\n", 2);
}
static void beanstalkd_expect(struct buf *out) {
    put_text(out, "reserve\r\n");
}
static void beanstalkd_took(struct buf *out, const struct msg *m) {
    put_text(out, "delete ");
    put(out, m->id, m->id_len);
    put(out, "\r\n", 2);
}
static void beanstalkd_answer(struct buf *out, const struct msg *m) {
    if (m->kind == MSG_JOB) {
        beanstalkd_submit(out, m->data, m->len);
        beanstalkd_took(out, m);
        beanstalkd_expect(out);
    }
}

static const char *const beanstalkd_argv[] = {"beanstalkd", "-z", "2097152", "-l", "unix:%s", NULL};
static const char beanstalkd_worker[] = "use done\r\nwatch jobs\r\nignore default\r\nreserve\r\n";

const struct queue_protocol queue_beanstalkd = {
    .argv = beanstalkd_argv,
    .two_connections = true,
    .parse = beanstalkd_parse,
    .worker_hello = beanstalkd_worker,
    .worker_hello_len = sizeof(beanstalkd_worker) - 1,
    .client_hello = "use jobs\r\n",
    .results_hello = "watch done\r\nignore default\r\n",
    .submit = beanstalkd_submit,
    .expect = beanstalkd_expect,
    .took = beanstalkd_took,
    .answer = beanstalkd_answer,
};

/* ---- a connection ---- */

struct conn {
    int fd;
    struct buf in, out;
    size_t taken; /* bytes of `in` that the last message occupies */
};

struct queue {
    const struct queue_protocol *protocol;
    char dir[TMP_PATH], socket[TMP_PATH + 16];
    unsigned port; /* 0: the socket */
    struct conn submit, results_own, *results;
    char *large;
};

static int connect_to(const struct queue *q) {
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)q->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    snprintf(u.sun_path, sizeof(u.sun_path), "%s", q->socket);
    int fd = socket(q->port ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = fd < 0    ? -1
            : q->port ? connect(fd, (struct sockaddr *)&in, sizeof(in))
                      : connect(fd, (struct sockaddr *)&u, sizeof(u));
    if (r < 0) {
        r = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    if (q->port) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
    struct timeval limit = {.tv_sec = PEER_LIMIT_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return fd;
}

static int flush(struct conn *c) {
    while (buf_len(&c->out) > 0) {
        ssize_t n = send(c->fd, buf_head(&c->out), buf_len(&c->out), MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        buf_consume(&c->out, n < 0 ? 0 : (size_t)n);
    }
    return 0;
}

static int fill(struct conn *c, int flags) {
    enum { PIECE = 256 * 1024 };
    char *room = buf_room(&c->in, PIECE);
    ssize_t n = room ? recv(c->fd, room, PIECE, flags) : -1;
    if (n <= 0) {
        return n == 0 ? -EPIPE : -errno;
    }
    buf_wrote(&c->in, (size_t)n);
    return 0;
}

/* The first message of what is there: 1, 0: none, -EPROTO. It is valid until the next one is asked for. */
static int parse(const struct queue_protocol *p, struct conn *c, struct msg *m) {
    buf_consume(&c->in, c->taken);
    c->taken = 0;
    long n = buf_len(&c->in) ? p->parse(buf_head(&c->in), buf_len(&c->in), m) : 0;
    if (n < 0) {
        fprintf(stderr, "unexpected: %.40s\n", buf_head(&c->in));
        return -EPROTO;
    }
    c->taken = (size_t)n;
    return n > 0;
}

/* Acknowledgements of what was submitted are looked at and dropped. */
static int send_jobs(struct queue *q) {
    struct conn *c = &q->submit;
    if (buf_len(&c->out) == 0) {
        return 0;
    }
    int r = flush(c);
    if (r < 0 || c == q->results) {
        return r;
    }
    r = fill(c, MSG_DONTWAIT);
    struct msg m;
    do {
        r = r < 0 && r != -EAGAIN ? r : parse(q->protocol, c, &m);
    } while (r == 1);
    return r;
}

/* ---- workers and client ---- */

static int worker(void *arg) {
    const struct queue *q = arg;
    struct conn c = {.fd = connect_to(q)};
    put(&c.out, q->protocol->worker_hello, q->protocol->worker_hello_len);
    int r = c.fd < 0 ? c.fd : 0;
    while (r >= 0) {
        struct msg m;
        r = parse(q->protocol, &c, &m);
        if (r == 1) {
            q->protocol->answer(&c.out, &m);
        } else if (r == 0) {
            r = flush(&c);
            r = r < 0 ? r : fill(&c, 0);
        }
    }
    return r == -EPIPE || r == -ECONNRESET ? 0 : 1;
}

static int next_result(struct queue *q, size_t want) {
    struct msg m = {.kind = MSG_OTHER};
    int r = 0;
    while (r >= 0 && (r == 0 || m.kind != MSG_JOB)) {
        r = parse(q->protocol, q->results, &m);
        if (r == 0) {
            r = flush(q->results);
            r = r < 0 ? r : send_jobs(q);
            r = r < 0 ? r : fill(q->results, 0);
        }
    }
    if (r < 0 || m.len != want) {
        return r < 0 ? r : -EBADMSG;
    }
    q->protocol->took(&q->results->out, &m);
    return 0;
}

int queue_run(struct peer *p, enum peer_row row, unsigned n) {
    struct queue *q = p->state;
    unsigned flight = row == ROW_FLIGHT ? PEER_FLIGHT : 1, sent = 0;
    size_t len = row == ROW_LARGE ? PEER_LARGE : 1;
    if (row != ROW_CALL && row != ROW_FLIGHT && row != ROW_LARGE) {
        return -ENOTSUP;
    }
    int r = 0;
    for (unsigned got = 0; got < n && r == 0; got++) {
        for (; sent < n && sent - got < flight; sent++) {
            q->protocol->submit(&q->submit.out, q->large, len);
            q->protocol->expect(&q->results->out);
        }
        r = next_result(q, len);
    }
    return r;
}

/* ---- the server ---- */

/* A port that was free a moment ago. */
static unsigned free_port(void) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&in, len) == 0 &&
                 getsockname(fd, (struct sockaddr *)&in, &len) == 0;
    return bound ? ntohs(in.sin_port) : 0;
}

/* Starts it and connects as soon as it listens: its fd, 0: it is not there, -errno. */
static int start(struct queue *q, pid_t *ret_pid) {
    char words[2][TMP_PATH + 32];
    const char *argv[20] = {NULL};
    size_t n = 0;
    for (; q->protocol->argv[n]; n++) {
        const char *at = strstr(q->protocol->argv[n], "%s");
        argv[n] = q->protocol->argv[n];
        if (at) {
            snprintf(words[0], sizeof(words[0]), "%.*s%s%s", (int)(at - argv[n]), argv[n],
                     q->socket, at + 2);
            argv[n] = words[0];
        }
    }
    if (q->protocol->by_port) {
        q->port = free_port();
        snprintf(words[1], sizeof(words[1]), "%u", q->port);
        argv[n] = words[1];
    }
    pid_t pid = child_exec(argv, NULL, -1, -1, -1);
    int fd = pid < 0 ? pid : -ECONNREFUSED, ended = -ETIMEDOUT;
    /* It does not say when it listens: asked again until it does or has ended. */
    for (int tries = 0; pid > 0 && fd < 0 && ended == -ETIMEDOUT && tries < 4000; tries++) {
        fd = connect_to(q);
        ended = fd < 0 ? child_wait_ms(pid, 5) : ended;
    }
    *ret_pid = fd < 0 ? 0 : pid;
    if (fd < 0 && ended == -ETIMEDOUT) {
        child_kill(pid);
    }
    return fd < 0 && ended == 127 ? 0 : fd;
}

void queue_shut(struct peer *p) {
    struct queue *q = p->state;
    for (int i = PEER_WORKERS; i >= 0; i--) {
        child_kill(p->pids[i]);
        p->pids[i] = 0;
    }
    struct conn *const both[] = {&q->submit, &q->results_own};
    for (size_t i = 0; i < 2; i++) {
        buf_deinit(&both[i]->in);
        buf_deinit(&both[i]->out);
        if (both[i]->fd >= 0) {
            close(both[i]->fd);
        }
    }
    if (q->dir[0]) {
        tmp_remove(q->dir);
    }
    free(q->large);
    free(q);
    p->state = NULL;
}

static int begin(struct peer *p, struct queue *q) {
    int r = start(q, &p->pids[0]);
    if (r <= 0) {
        return r;
    }
    q->submit.fd = r;
    if (q->protocol->two_connections) {
        r = q->results_own.fd = connect_to(q);
    }
    q->results = q->protocol->two_connections ? &q->results_own : &q->submit;
    put_text(&q->submit.out, q->protocol->client_hello ? q->protocol->client_hello : "");
    put_text(&q->results->out, q->protocol->results_hello ? q->protocol->results_hello : "");
    for (int i = 1; i <= PEER_WORKERS && r >= 0; i++) {
        r = p->pids[i] = child_start(worker, q);
    }
    return r < 0 ? r : 1;
}

int queue_open(struct peer *p) {
    struct queue *q = calloc(1, sizeof(*q));
    if (!q) {
        return -ENOMEM;
    }
    q->protocol = p->kind;
    q->submit.fd = q->results_own.fd = -1;
    q->large = calloc(1, PEER_LARGE);
    p->state = q;
    int r = q->large ? tmp_dir(q->dir) : -ENOMEM;
    snprintf(q->socket, sizeof(q->socket), "%s/socket", q->dir);
    r = r < 0 ? r : begin(p, q);
    if (r != 1) {
        queue_shut(p);
    }
    return r < 0 ? bench_failed(p->name, r) : r;
}
