/* SPDX-License-Identifier: MIT */
/* Commands as tasks, at the speed of posix_spawn.
 *
 * vfork() and execve(): the child borrows our memory until it has exec'd, so nothing of the worker
 * is copied, and a failed exec is told through a variable. In the child run only system calls,
 * copies of bytes and one atomic store (its process group goes into the slot before the command can
 * run). Our signals are at their defaults and our descriptors close-on-exec (the zygote saw to
 * that), so the child has nothing to reset. No shell anywhere: words are argv entries.
 *
 * While the command runs we sleep in one poll() over its pidfd and pipes. We keep the write ends of
 * stdout and stderr open ourselves, so that their closing wakes nobody: /bin/true costs one
 * wake-up. The command ends when its leader ends; the rest of its process group is killed then
 * (before the leader is reaped, while the group's number is certainly still its own), and what the
 * pipes hold at that moment still counts. So neither a background process that keeps stdout open
 * nor one that closes it early confuses us.
 *
 * stdout is read straight into the task's block in the segment. stdin is fed without blocking; a
 * command that does not read it is no error. SIGPIPE is ignored only while there is something to
 * feed, after the vfork, so that commands get the default. A cancelled command is sent SIGTERM by
 * the daemon (or by us, when that came before the group was known).
 *
 * Fails: never to the caller; what goes wrong is the task's outcome (see exec.h). A log that finds
 * no memory is dropped and said. */
#include "worker/exec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/dir.h"
#include "lib/base/num.h"
#include "lib/shm/slot.h"
#include "lib/shm/stream.h"
#include "worker/group.h"
#include "worker/hearth_handler.h"
#include "worker/say.h"

enum {
    FIRST_OUTPUT = 4096,
    STALL_MS = 20, /* while a follower is behind, the command's end is looked for so often */
};

/* One command. */
struct job {
    struct exec *e;
    struct shm *s;
    const struct task_ref *ref;
    pid_t pid;
    int pidfd, in, out, err; /* our ends; -1: closed */
    int child_in, child_out, child_err;
    /* written by the child until it has exec'd. volatile: a compiler sees a function that never
     * returns, and takes its stores for unseen by anybody */
    pid_t parent;
    volatile int error;
    const char *volatile hit; /* the path that was tried last: on success, the program's */
    /* stdin */
    const char *feed;
    size_t feed_left;
    /* stdout */
    char *output;
    uint64_t used, cap;
    int trouble; /* 0, EFBIG or ENOMEM */
    /* stderr: the last EXEC_LOG bytes before log_pos */
    size_t log_pos;
    /* what has been read and is not in the stream yet: up to used, or log_pos */
    uint64_t told;
    size_t log_told;
    bool mute; /* nothing more goes there */
    struct rusage usage;
};

/* ---- once per worker ---- */

static int make_env(struct exec *e, const char *pool) {
    static const char *const ours[] = {"HEARTH_POOL=", "HEARTH_TASK=", "HEARTH_ATTEMPT="};
    size_t n = 0;
    while (environ[n] != NULL) {
        n++;
    }
    e->env = calloc(n + ARRAY_SIZE(ours) + 2, sizeof(*e->env));
    if (e->env == NULL) {
        return -ENOMEM;
    }
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_ours = false;
        for (size_t k = 0; k < ARRAY_SIZE(ours); k++) {
            is_ours |= strncmp(environ[i], ours[k], strlen(ours[k])) == 0;
        }
        if (!is_ours) {
            e->env[to++] = environ[i];
        }
    }
    snprintf(e->env_pool, sizeof(e->env_pool), "HEARTH_POOL=%s", pool);
    e->env[to++] = e->env_pool;
    e->env[to++] = e->env_task;
    e->env[to] = e->env_attempt;
    return 0;
}

static int make_paths(struct exec *e) {
    const char *path = getenv("PATH");
    e->paths = strdup(path != NULL ? path : "/usr/bin:/bin");
    if (e->paths == NULL) {
        return -ENOMEM;
    }
    e->paths_count = 1;
    for (char *c = e->paths; *c != '\0'; c++) {
        if (*c == ':') {
            *c = '\0';
            e->paths_count++;
        }
    }
    return 0;
}

int exec_init(struct exec *e, const char *pool, int argc, char **argv, uint64_t max_output) {
    *e = (struct exec){.argc = argc, .argv = argv, .max_output = max_output};
    e->log = malloc(2 * (size_t)EXEC_LOG);
    if (e->log == NULL || make_env(e, pool) < 0 || make_paths(e) < 0) {
        exec_deinit(e);
        return -ENOMEM;
    }
    return 0;
}

/* ---- temporary files ---- */

static int open_tmp(struct exec *e) {
    const char *path = e->tmp_word + strlen("TMPDIR=");
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    e->tmp_fd = fd;
    return dir_empty(fd); /* a worker before us may have been killed */
}

int exec_private_tmp(struct exec *e, const char *dir, uint32_t slot) {
    size_t n = 0, kept = 0;
    if (snprintf(e->tmp_word, sizeof(e->tmp_word), "TMPDIR=%s/%u", dir, slot) >=
        (int)sizeof(e->tmp_word)) {
        return -ENAMETOOLONG;
    }
    for (; e->env[n] != NULL; n++) {
        if (strncmp(e->env[n], "TMPDIR=", strlen("TMPDIR=")) != 0) {
            e->env[kept++] = e->env[n];
        }
    }
    e->env[kept++] = e->tmp_word;
    e->env[kept] = NULL;
    return open_tmp(e);
}

/* Nothing of a command's is there for the next one. */
static void clear_tmp(struct exec *e) {
    int r = e->tmp_fd > 0 ? dir_is_empty(e->tmp_fd) : 1;
    if (r == -ENOENT) { /* it has removed the directory itself */
        close(e->tmp_fd);
        e->tmp_fd = -1;
        r = open_tmp(e);
    } else if (r <= 0) {
        r = dir_empty(e->tmp_fd);
    }
    if (r < 0) {
        say(HEARTH_LOG_WARNING, NULL, "temporary files of a command stay in %s: %s",
            e->tmp_word + strlen("TMPDIR="), strerror(-r));
    }
}

void exec_deinit(struct exec *e) {
    if (e->tmp_fd > 0) {
        rmdir(e->tmp_word + strlen("TMPDIR="));
        close(e->tmp_fd);
    }
    free(e->words);
    free(e->env);
    free(e->paths);
    free(e->known_name);
    free(e->known_path);
    free(e->log);
    *e = (struct exec)EXEC_INIT;
}

/* ---- the child, between vfork and exec ---- */

/* Whether the search for the program goes on after this error, as execvp(3) does. */
static bool look_further(int error) {
    return error == ENOENT || error == ENOTDIR || error == EACCES || error == ESTALE ||
           error == ENODEV || error == ETIMEDOUT;
}

/* Returns only when no program could be started, with the reason. */
static int exec_words(struct job *j) {
    struct exec *e = j->e;
    const char *name = e->words[0];
    size_t len = strlen(name);
    if (len == 0 || memchr(name, '/', len) != NULL) {
        j->hit = name;
        execve(name, e->words, e->env);
        return errno;
    }
    if (e->known_name != NULL && strcmp(e->known_name, name) == 0) {
        j->hit = e->known_path;
        execve(e->known_path, e->words, e->env);
    }
    bool denied = false;
    const char *dir = e->paths;
    for (uint32_t i = 0; i < e->paths_count; i++, dir += strlen(dir) + 1) {
        size_t n = strlen(dir);
        if (n + 1 + len + 1 > sizeof(e->path)) {
            continue;
        }
        memcpy(e->path, dir, n);
        if (n > 0) {
            e->path[n++] = '/';
        }
        memcpy(e->path + n, name, len + 1);
        j->hit = e->path;
        execve(e->path, e->words, e->env);
        if (!look_further(errno)) {
            return errno;
        }
        denied |= errno == EACCES;
    }
    return denied ? EACCES : ENOENT;
}

static void __attribute__((noreturn, noinline)) be_child(struct job *j) {
    /* a command dies with its worker; if that is gone already, at once */
    if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        j->error = errno;
        _exit(127);
    }
    if (getppid() != j->parent) {
        j->error = ESRCH;
        _exit(127);
    }
    slot_set_child(j->s, (uint32_t)getpid());
    if ((j->child_in >= 0 && dup2(j->child_in, STDIN_FILENO) < 0) ||
        dup2(j->child_out, STDOUT_FILENO) < 0 || dup2(j->child_err, STDERR_FILENO) < 0) {
        j->error = errno;
        _exit(127);
    }
    j->error = exec_words(j);
    _exit(127);
}

static pid_t __attribute__((noinline)) start_child(struct job *j) {
    pid_t pid = vfork();
    if (pid == 0) {
        be_child(j);
    }
    return pid;
}

/* ---- starting ---- */

static void close_fd(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void close_all(struct job *j) {
    close_fd(&j->pidfd);
    close_fd(&j->in);
    close_fd(&j->out);
    close_fd(&j->err);
    close_fd(&j->child_in);
    close_fd(&j->child_out);
    close_fd(&j->child_err);
}

/* The pool's words, then the task's arguments. 0 or an errno. */
static int gather_words(struct exec *e, const struct task_view *v) {
    size_t count = (size_t)e->argc + v->nargs;
    if (count == 0) {
        return EINVAL;
    }
    if (count + 1 > e->words_cap) {
        char **more = realloc(e->words, (count + 1) * sizeof(*more));
        if (more == NULL) {
            return ENOMEM;
        }
        e->words = more;
        e->words_cap = count + 1;
    }
    size_t n = 0;
    while (n < (size_t)e->argc) {
        e->words[n] = e->argv[n];
        n++;
    }
    size_t at = 0;
    struct task_bytes arg;
    while (n < count && task_arg(v, &at, &arg) == 0) {
        if (memchr(arg.data, '\0', arg.len) != NULL) {
            return EINVAL; /* a word cannot carry a NUL */
        }
        e->words[n++] = (char *)(uintptr_t)arg.data;
    }
    e->words[n] = NULL;
    return n == count ? 0 : EINVAL;
}

static void name_task(struct exec *e, const struct task_ref *ref, const struct task_view *v) {
    char id[TASK_ID_TEXT];
    task_id_text(id, ref->id, ref->idx);
    char *at = stpcpy(e->env_task, "HEARTH_TASK=");
    memcpy(at, id, strlen(id) + 1);
    at = stpcpy(e->env_attempt, "HEARTH_ATTEMPT=");
    at[num_put_u64(at, v->attempt)] = '\0';
}

static int make_pipe(int *ret_read, int *ret_write) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return errno;
    }
    *ret_read = fds[0];
    *ret_write = fds[1];
    return 0;
}

static int make_pipes(struct job *j) {
    int error = make_pipe(&j->out, &j->child_out);
    if (error == 0) {
        error = make_pipe(&j->err, &j->child_err);
    }
    if (error == 0 && j->feed_left > 0) {
        error = make_pipe(&j->child_in, &j->in);
        if (error == 0 && fcntl(j->in, F_SETFL, O_NONBLOCK) < 0) {
            error = errno;
        }
    }
    return error;
}

/* Remembers where a name without a slash was found; without memory it is looked for again next
 * time. */
static void remember(struct exec *e, const struct job *j) {
    if (j->hit != e->path) {
        return;
    }
    free(e->known_name);
    free(e->known_path);
    e->known_name = strdup(e->words[0]);
    e->known_path = strdup(e->path);
    if (e->known_name == NULL || e->known_path == NULL) {
        free(e->known_name);
        free(e->known_path);
        e->known_name = e->known_path = NULL;
    }
}

static int reap(struct job *j) {
    int status = 0;
    slot_set_child(j->s, 0); /* first: the number may be another's as soon as it is reaped */
    while (wait4(j->pid, &status, 0, &j->usage) < 0 && errno == EINTR) {
    }
    return status;
}

/* 0, or the errno for which the command does not run. */
static int start(struct job *j) {
    int error = make_pipes(j);
    if (error != 0) {
        return error;
    }
    j->parent = getpid();
    j->pid = start_child(j);
    if (j->pid < 0) {
        return errno;
    }
    if (j->error != 0) {
        reap(j);
        return j->error;
    }
    j->pidfd = pidfd_open(j->pid, 0);
    if (j->pidfd < 0) {
        error = errno;
        kill(-j->pid, SIGKILL);
        reap(j);
        return error;
    }
    close_fd(&j->child_in);
    remember(j->e, j);
    return 0;
}

/* ---- while it runs ---- */

static void feed(struct job *j) {
    while (j->feed_left > 0) {
        ssize_t n = write(j->in, j->feed, j->feed_left);
        if (n < 0) {
            if (errno == EAGAIN) {
                return;
            }
            if (errno == EINTR) {
                continue;
            }
            break; /* EPIPE: it does not want more */
        }
        j->feed += n;
        j->feed_left -= (size_t)n;
    }
    close_fd(&j->in);
}

static void give_up(struct job *j, int trouble) {
    j->trouble = trouble;
    kill(-j->pid, SIGKILL);
}

/* Room for at least one byte more. */
static int grow(struct job *j) {
    uint64_t max = j->e->max_output;
    if (j->used >= max) {
        return EFBIG;
    }
    uint64_t want = j->cap == 0 ? FIRST_OUTPUT : j->cap * 2;
    if (want > max) {
        want = max;
    }
    void *place = NULL;
    int r = task_output(j->s, j->ref, j->used, want, &place);
    if (r < 0) {
        return r == -EMSGSIZE ? EFBIG : ENOMEM;
    }
    j->output = place;
    j->cap = want;
    return 0;
}

/* ---- the stream ---- */

static bool tell(struct job *j, enum stream_kind kind, const char *data, uint64_t len, bool wait,
                 uint64_t *told) {
    int64_t n =
        len == 0 || j->mute ? (int64_t)len : stream_put(j->s, j->ref, kind, data, len, wait);
    j->mute |= n < 0;
    *told = n < 0 ? len : (uint64_t)n;
    return *told == len;
}

/* What has been read goes into the stream. False: a follower is behind, some of it is left (not with `wait`). */
static bool tell_all(struct job *j, bool wait) {
    uint64_t n;
    bool all = tell(j, STREAM_STDOUT, j->output + j->told, j->used - j->told, wait, &n);
    j->told += n;
    all &= tell(j, STREAM_STDERR, j->e->log + j->log_told, j->log_pos - j->log_told, wait, &n);
    j->log_told += n;
    return all;
}

/* Takes up to `most` of the bytes that are there. */
static void take_output(struct job *j, size_t most) {
    if (j->used == j->cap) {
        int trouble = grow(j);
        if (trouble != 0) {
            give_up(j, trouble);
            return;
        }
    }
    uint64_t room = j->cap - j->used;
    ssize_t n = read(j->out, j->output + j->used, room < most ? room : most);
    if (n > 0) {
        j->used += (uint64_t)n;
    }
}

static void take_log(struct job *j, size_t most) {
    if (j->log_pos == 2 * (size_t)EXEC_LOG) {
        memcpy(j->e->log, j->e->log + EXEC_LOG, EXEC_LOG);
        j->log_pos = EXEC_LOG;
        j->log_told = j->log_told > EXEC_LOG ? j->log_told - EXEC_LOG : 0;
    }
    size_t room = 2 * (size_t)EXEC_LOG - j->log_pos;
    ssize_t n = read(j->err, j->e->log + j->log_pos, room < most ? room : most);
    if (n > 0) {
        j->log_pos += (size_t)n;
    }
}

/* Serves the pipes until the leader has ended. */
static void attend(struct job *j) {
    bool behind = false; /* the command waits for a follower, by its pipes */
    if (j->in >= 0) {
        feed(j);
    }
    for (;;) {
        struct pollfd p[] = {
            {.fd = j->pidfd, .events = POLLIN},
            {.fd = j->trouble || behind ? -1 : j->out, .events = POLLIN},
            {.fd = behind ? -1 : j->err, .events = POLLIN},
            {.fd = j->in, .events = POLLOUT},
        };
        nfds_t n = j->in >= 0 ? 4 : 3;
        if (poll(p, n, behind ? 0 : -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            give_up(j, ENOMEM);
            return;
        }
        if (p[1].revents & POLLIN) {
            take_output(j, SIZE_MAX);
        }
        if (p[2].revents & POLLIN) {
            take_log(j, SIZE_MAX);
        }
        if (n == 4 && p[3].revents != 0) {
            feed(j);
        }
        if (behind && p[0].revents == 0) {
            stream_wait(j->s, j->ref, STALL_MS * NS_PER_MS);
        }
        behind = !tell_all(j, false);
        if (p[0].revents != 0) {
            return;
        }
    }
}

/* What the pipes hold now and no more: a process that left the group may write for ever. */
static void drain(struct job *j) {
    struct pollfd p[] = {{.fd = j->out, .events = POLLIN}, {.fd = j->err, .events = POLLIN}};
    if (poll(p, 2, 0) <= 0) {
        return;
    }
    int there = 0;
    if ((p[0].revents & POLLIN) && ioctl(j->out, FIONREAD, &there) == 0) {
        uint64_t end = j->used + (uint64_t)there;
        while (j->trouble == 0 && j->used < end) {
            uint64_t before = j->used;
            take_output(j, end - j->used);
            if (j->used == before) {
                break;
            }
        }
    }
    if ((p[1].revents & POLLIN) && ioctl(j->err, FIONREAD, &there) == 0) {
        for (int got = 0; got < there;) {
            size_t before = j->log_pos == 2 * (size_t)EXEC_LOG ? EXEC_LOG : j->log_pos;
            take_log(j, (size_t)(there - got));
            if (j->log_pos == before) {
                break;
            }
            got += (int)(j->log_pos - before);
        }
    }
}

/* ---- the outcome ---- */

static void __attribute__((format(printf, 5, 6)))
fail_with(struct job *j, struct task_outcome *ret, enum task_cause cause, int code,
          const char *format, ...) {
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    size_t len = strlen(text);
    void *place = NULL;
    if (task_output(j->s, j->ref, 0, len, &place) < 0) {
        len = 0;
    } else {
        memcpy(place, text, len);
    }
    *ret = (struct task_outcome){
        .state = TASK_FAILED, .cause = cause, .code = code, .output_len = len};
}

/* The daemon tells a command to stop, for a cancel or for its time limit, by flag and SIGTERM. */
static bool was_stopped(struct job *j, int status) {
    return task_cancel_wanted(j->s, j->ref) &&
           ((WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) ||
            (WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGTERM));
}

/* Past its soft limit it was sent a signal, and has ended by that. */
static bool was_told_softly(struct job *j, int status) {
    int sig;
    return task_is_soft(j->s, j->ref, &sig) && sig != 0 &&
           ((WIFSIGNALED(status) && WTERMSIG(status) == sig) ||
            (WIFEXITED(status) && WEXITSTATUS(status) == 128 + sig));
}

static bool is_over_time(const struct task_view *v) {
    return v->timeout_ms != 0 && clock_now() >= v->started_ns + v->timeout_ms * NS_PER_MS;
}

static void judge(struct job *j, const struct task_view *v, int status, struct task_outcome *ret) {
    *ret = (struct task_outcome){.state = TASK_FAILED, .output_len = j->used};
    if (j->trouble == EFBIG) {
        fail_with(j, ret, CAUSE_ERROR, EFBIG, "the output is larger than %llu bytes (max_output)",
                  (unsigned long long)j->e->max_output);
    } else if (j->trouble != 0) {
        fail_with(j, ret, CAUSE_ERROR, j->trouble, "no memory for the output");
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        ret->state = TASK_DONE;
        ret->cause = CAUSE_RESULT;
    } else if (was_stopped(j, status)) {
        bool over = is_over_time(v), late = task_is_late(j->s, j->ref);
        ret->state = over || late ? TASK_TIMEOUT : TASK_CANCELLED;
        ret->cause = over ? CAUSE_TIMEOUT : late ? CAUSE_DEADLINE : CAUSE_CANCELLED;
    } else if (was_told_softly(j, status)) {
        ret->state = TASK_TIMEOUT;
        ret->cause = CAUSE_SOFT;
    } else if (WIFSIGNALED(status)) {
        ret->cause = CAUSE_SIGNAL;
        ret->signal = (uint8_t)WTERMSIG(status);
        ret->core = WCOREDUMP(status) ? 1 : 0;
    } else {
        ret->cause = CAUSE_EXIT;
        ret->code = WEXITSTATUS(status);
    }
}

static uint64_t us_of(const struct timeval *tv) {
    return (uint64_t)tv->tv_sec * 1000000 + (uint64_t)tv->tv_usec;
}

static void keep_log(struct job *j) {
    size_t len = j->log_pos < EXEC_LOG ? j->log_pos : EXEC_LOG;
    if (len == 0) {
        return;
    }
    int r = task_log(j->s, j->ref, j->e->log + j->log_pos - len, (uint32_t)len);
    if (r < 0) {
        say(HEARTH_LOG_WARNING, NULL, "stderr of a command is lost: %s", strerror(-r));
    }
}

/* From start to the leader's end. Returns its wait status. */
static int run(struct job *j, bool feeding) {
    struct sigaction old;
    if (feeding) {
        struct sigaction ignore = {.sa_handler = SIG_IGN};
        sigaction(SIGPIPE, &ignore, &old);
    }
    /* a cancel that came before the group was in the slot was sent to nobody */
    int soft;
    if (task_is_soft(j->s, j->ref, &soft) && soft != 0) {
        kill(-j->pid, soft);
    }
    if (task_cancel_wanted(j->s, j->ref)) {
        kill(-j->pid, SIGTERM);
    }
    attend(j);
    kill(-j->pid, SIGKILL); /* what it left behind; the leader itself is a zombie */
    int status = reap(j);
    if (j->e->group_fd > 2) {
        group_clear(j->e->group_fd);
    }
    tell_all(j, true);
    drain(j);
    tell_all(j, true);
    if (feeding) {
        sigaction(SIGPIPE, &old, NULL);
    }
    return status;
}

void exec_run(struct exec *e, struct shm *s, const struct task_ref *ref, const struct task_view *v,
              struct task_outcome *ret) {
    struct job j;
    j = (struct job){.e = e,
                     .s = s,
                     .ref = ref,
                     .pidfd = -1,
                     .in = -1,
                     .out = -1,
                     .err = -1,
                     .child_in = -1,
                     .child_out = -1,
                     .child_err = -1,
                     .feed = v->payload.data,
                     .feed_left = v->payload.len};
    bool feeding = j.feed_left > 0;
    int error = gather_words(e, v);
    if (error == 0) {
        name_task(e, ref, v);
        error = start(&j);
        if (error != 0) {
            fail_with(&j, ret, CAUSE_START, error, "cannot run %.200s: %s", e->words[0],
                      strerror(error));
        }
    } else {
        bool none = e->argc == 0 && v->nargs == 0;
        fail_with(&j, ret, CAUSE_START, error, "%s",
                  none              ? "no command: it is given by the pool's exec or as arguments"
                  : error == ENOMEM ? "no memory"
                                    : "an argument of a command cannot contain a NUL byte");
    }
    if (error == 0) {
        int status = run(&j, feeding);
        judge(&j, v, status, ret);
        ret->user_us = us_of(&j.usage.ru_utime);
        ret->system_us = us_of(&j.usage.ru_stime);
        ret->rss_kib = (uint64_t)j.usage.ru_maxrss;
        keep_log(&j);
        clear_tmp(e);
    }
    close_all(&j);
}
