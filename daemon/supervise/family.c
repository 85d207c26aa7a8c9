/* SPDX-License-Identifier: MIT */
/* What /proc says of a process and its descendants. Children are found by the lists that the kernel
 * keeps for each thread (/proc/PID/task/TID/children), so a walk costs a few system calls per process
 * of the family and nothing for the rest of the machine. A process that has left the group, or the
 * session, is still a child; one whose parent has ended is a child of the daemon, which is a
 * subreaper, and is recognised by what every command (HEARTH_TASK) and every process (HEARTH_PROC) has in its environment. Where there are control groups
 * (cgroup.c) these know better who belongs to whom.
 *
 * Nothing here waits for the process that is looked at: only files are read that the kernel answers
 * for without its memory map; the environment, which needs that, only of orphans.
 *
 * Fails: nothing; what cannot be read is not there. */
#include "daemon/supervise/family.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

enum { THREADS_MAX = 64, TEXT = 4096, OWN_CHILDREN = 64 * 1024, ENVIRONMENT = 128 * 1024 };

/* A file below /proc/PID; false: not to be had. */
static ssize_t read_proc(pid_t pid, const char *name, char *out, size_t n) {
    char path[96];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, out, n - 1);
    out[got > 0 ? got : 0] = '\0';
    return got;
}

/* ---- the tree ---- */

/* Calls fn for each number of a list of the kernel's, in which a space follows each; the last one may have been cut. */
static void each_number(char *text, void (*fn)(void *arg, pid_t child), void *arg) {
    for (char *at = text, *end;; at = end + 1) {
        long child = strtol(at, &end, 10);
        if (end == at || *end != ' ') {
            return;
        }
        if (child > 1 && child <= INT32_MAX) {
            fn(arg, (pid_t)child);
        }
    }
}

static ssize_t read_children(pid_t pid, pid_t thread, char *out, size_t n) {
    char name[64];
    snprintf(name, sizeof(name), "task/%d/children", (int)thread);
    return read_proc(pid, name, out, n);
}

/* Calls fn for each child of a thread. */
static void each_child(pid_t pid, pid_t thread, void (*fn)(void *arg, pid_t child), void *arg) {
    char text[TEXT];
    if (read_children(pid, thread, text, sizeof(text)) > 0) {
        each_number(text, fn, arg);
    }
}

static void each_child_of_all_threads(pid_t pid, void (*fn)(void *arg, pid_t child), void *arg) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (!d) {
        return;
    }
    int left = THREADS_MAX;
    for (const struct dirent *e = readdir(d); e && left > 0; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            each_child(pid, (pid_t)strtol(e->d_name, NULL, 10), fn, arg);
            left--;
        }
    }
    closedir(d);
}

/* The number behind the name, which may have anything in it; "R", the parent, ... from there on. */
static const char *stat_rest(char *text) {
    char *close = strrchr(text, ')');
    return close && close[1] == ' ' ? close + 2 : NULL;
}

static pid_t parent_of(pid_t pid) {
    char text[1024], state;
    int parent;
    const char *rest = read_proc(pid, "stat", text, sizeof(text)) > 0 ? stat_rest(text) : NULL;
    return rest && sscanf(rest, "%c %d", &state, &parent) == 2 ? parent : 0;
}

struct adding {
    struct family *f;
    pid_t parent;
};

static void add_child(void *arg, pid_t child) {
    const struct adding *a = arg;
    struct family *f = a->f;
    if (f->n == FAMILY_MAX) {
        return;
    }
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->pid[i] == child) {
            return;
        }
    }
    int fd = pidfd_open(child, 0);
    if (fd < 0) {
        return;
    }
    if (parent_of(child) != a->parent) { /* another process by now */
        close(fd);
        return;
    }
    f->pid[f->n] = child;
    f->fd[f->n++] = fd;
}

void family_add(struct family *f, pid_t root) {
    uint32_t next = f->n;
    struct adding a = {f, root};
    each_child_of_all_threads(root, add_child, &a);
    while (next < f->n) {
        a.parent = f->pid[next++];
        each_child_of_all_threads(a.parent, add_child, &a);
    }
}

void family_collect(pid_t root, struct family *ret) {
    ret->n = 0;
    family_add(ret, root);
}

void family_kill(const struct family *f) {
    for (uint32_t i = 0; i < f->n; i++) {
        pidfd_send_signal(f->fd[i], SIGKILL, NULL, 0);
    }
}

void family_release(struct family *f) {
    for (uint32_t i = 0; i < f->n; i++) {
        close(f->fd[i]);
    }
    f->n = 0;
}

/* ---- orphans ---- */

struct seeking {
    bool (*known)(void *arg, pid_t child);
    void (*fn)(void *arg, pid_t child, const char *env, size_t len);
    void *arg;
};

static void look_at_child(void *arg, pid_t child) {
    static char env[ENVIRONMENT + 1];
    const struct seeking *k = arg;
    ssize_t n = k->known(k->arg, child) ? 0 : read_proc(child, "environ", env, sizeof(env));
    if (n > 0) {
        k->fn(k->arg, child, env, (size_t)n);
    }
}

void family_each_orphan(bool (*known)(void *arg, pid_t child),
                        void (*fn)(void *arg, pid_t child, const char *env, size_t len),
                        void *arg) {
    static char children[OWN_CHILDREN];
    if (read_children(getpid(), getpid(), children, sizeof(children)) > 0) {
        each_number(children, look_at_child, &(struct seeking){known, fn, arg});
    }
}

const char *family_variable(const char *env, size_t len, const char *name) {
    size_t n = strlen(name);
    for (size_t at = 0; at < len; at += strlen(env + at) + 1) {
        if (strncmp(env + at, name, n) == 0 && env[at + n] == '=') {
            return env + at + n + 1;
        }
    }
    return NULL;
}

void family_add_child(struct family *f, pid_t child) {
    uint32_t i = f->n;
    add_child(&(struct adding){f, getpid()}, child);
    if (f->n > i) {
        family_add(f, child);
    }
}

/* ---- memory ---- */

uint64_t family_memory_of(pid_t pid) {
    char text[256];
    unsigned long size, resident, shared;
    if (read_proc(pid, "statm", text, sizeof(text)) <= 0 ||
        sscanf(text, "%lu %lu %lu", &size, &resident, &shared) != 3 || resident < shared) {
        return 0;
    }
    return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t family_memory(pid_t root) {
    struct family f;
    uint64_t sum = family_memory_of(root);
    family_collect(root, &f);
    for (uint32_t i = 0; i < f.n; i++) {
        sum += family_memory_of(f.pid[i]);
    }
    family_release(&f);
    return sum;
}

/* ---- what it does ---- */

static const struct {
    long number;
    const char *name;
} calls[] = {
    {SYS_read, "read"},
    {SYS_write, "write"},
    {SYS_pread64, "pread64"},
    {SYS_pwrite64, "pwrite64"},
    {SYS_readv, "readv"},
    {SYS_writev, "writev"},
    {SYS_futex, "futex"},
    {SYS_ppoll, "ppoll"},
    {SYS_pselect6, "pselect6"},
    {SYS_epoll_pwait, "epoll_pwait"},
    {SYS_clock_nanosleep, "clock_nanosleep"},
    {SYS_nanosleep, "nanosleep"},
    {SYS_wait4, "wait4"},
    {SYS_waitid, "waitid"},
    {SYS_recvfrom, "recvfrom"},
    {SYS_recvmsg, "recvmsg"},
    {SYS_sendto, "sendto"},
    {SYS_sendmsg, "sendmsg"},
    {SYS_connect, "connect"},
    {SYS_accept4, "accept4"},
    {SYS_openat, "openat"},
    {SYS_fsync, "fsync"},
    {SYS_fdatasync, "fdatasync"},
    {SYS_flock, "flock"},
    {SYS_fcntl, "fcntl"},
    {SYS_ioctl, "ioctl"},
    {SYS_getdents64, "getdents64"},
    {SYS_splice, "splice"},
    {SYS_copy_file_range, "copy_file_range"},
    {SYS_rt_sigsuspend, "rt_sigsuspend"},
    {SYS_rt_sigtimedwait, "rt_sigtimedwait"},
    {SYS_mmap, "mmap"},
    {SYS_munmap, "munmap"},
    {SYS_io_uring_enter, "io_uring_enter"},
#ifdef SYS_poll
    {SYS_poll, "poll"},
    {SYS_select, "select"},
    {SYS_epoll_wait, "epoll_wait"},
    {SYS_pause, "pause"},
#endif
};

struct line {
    char *at, *end;
};

static void __attribute__((format(printf, 2, 3))) put(struct line *l, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(l->at, (size_t)(l->end - l->at), format, ap);
    va_end(ap);
    l->at += n < l->end - l->at ? n : l->end - l->at - 1;
}

/* " (poll)": the system call it is in; nothing when that cannot be had, or it is in none. */
static void put_call(struct line *l, pid_t pid) {
    char text[256], *end;
    if (read_proc(pid, "syscall", text, sizeof(text)) <= 0) {
        return;
    }
    long number = strtol(text, &end, 10);
    if (end == text || number < 0) {
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        if (calls[i].number == number) {
            put(l, " (%s)", calls[i].name);
            return;
        }
    }
    put(l, " (system call %ld)", number);
}

/* The functions of the kernel's stack, the innermost first, when we may see it; else where it waits. */
static void put_kernel(struct line *l, pid_t pid) {
    char text[TEXT];
    int shown = 0;
    if (read_proc(pid, "stack", text, sizeof(text)) > 0) {
        for (char *at = strstr(text, "] "); at && shown < 5; at = strstr(at, "] ")) {
            at += 2;
            size_t n = strcspn(at, "+\n ");
            put(l, "%s%.*s", shown++ ? " < " : " in ", (int)n, at);
        }
    }
    if (shown == 0 && read_proc(pid, "wchan", text, sizeof(text)) > 0 && text[0] != '0') {
        put(l, " in %.64s", text);
    }
}

static void put_state(struct line *l, pid_t pid) {
    char text[1024], state = '?';
    unsigned long user = 0, system = 0;
    const char *rest = read_proc(pid, "stat", text, sizeof(text)) > 0 ? stat_rest(text) : NULL;
    if (!rest || sscanf(rest, "%c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &state, &user,
                        &system) != 3) {
        put(l, "gone");
        return;
    }
    put(l, "%s",
        state == 'R'   ? "running"
        : state == 'S' ? "sleeping"
        : state == 'D' ? "waiting for a device"
        : state == 'T' ? "stopped"
        : state == 't' ? "stopped by a debugger"
        : state == 'Z' ? "ended"
                       : "in an unknown state");
    if (state == 'S' || state == 'D') {
        put_kernel(l, pid);
        put_call(l, pid);
    }
    put(l, ", %lu ms of CPU", (user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK));
}

static void keep_last(void *arg, pid_t child) {
    *(pid_t *)arg = child;
}

void family_where(pid_t root, char *out, size_t n) {
    struct line l = {out, out + n};
    char name[64];
    pid_t pid = root;
    for (int depth = 0; depth < 8; depth++) {
        pid_t child = 0;
        read_proc(pid, "comm", name, sizeof(name));
        name[strcspn(name, "\n")] = '\0';
        put(&l, "%s%s", depth ? " > " : "", name);
        each_child_of_all_threads(pid, keep_last, &child);
        if (child == 0) {
            break;
        }
        pid = child;
    }
    put(&l, ": ");
    put_state(&l, pid);
}
