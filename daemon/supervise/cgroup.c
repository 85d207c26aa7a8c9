/* SPDX-License-Identifier: MIT */
/* Control groups. A part of the tree is ours when systemd says so (Delegate=yes: it leaves a mark on the directory) or the
 * configuration names it; root's right to write anywhere is no such word. Other daemons in it are kept out by a lock.
 *
 * Only the unified hierarchy is used. On a hybrid system controllers belong to the other one: then groups hold processes
 * together, and kill them, but bound nothing; what of the configuration is not kept is said once a pool. A group has no
 * processes of its own if it hands controllers down, so the daemon moves itself into a leaf first, and back at the end.
 *
 * A worker is born in its group: the zygote's child that forks it joins first, by a descriptor that the daemon has opened, which
 * needs no right of its own. (Moving a process costs a grace period of the kernel; the daemon does that for
 * no worker but those that a program forks.) memory.oom.group is set: a worker that the kernel kills goes as a whole, and its
 * count of kills tells it for sure.
 *
 * Members of a group cannot leave it as they can a session, or clear their environment: who is in it descends from its first
 * process. Workers that are left to the next daemon (handover.c) stay in their groups, which have the same names for that one; since
 * the service manager puts it where controllers must not be handed down, their limits are lifted.
 *
 * A group that is not empty yet when it is to go (its killed are still being buried) is tried again in later turns.
 *
 * Fails: a group that cannot be made is done without, as if there were none; the log says so. */
#include "daemon/supervise/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/hearthd.h"
#include "daemon/log.h"
#include "daemon/supervise/family.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"

enum { TEXT = 8192, FILE_PATH = CGROUP_NAME + 64, KILL_ROUNDS = 8 };
enum { MEMORY = 1, CPU = 2, PIDS = 4 };

static const struct {
    const char *name;
    unsigned bit;
} controllers[] = {{"memory", MEMORY}, {"cpu", CPU}, {"pids", PIDS}};

struct cgroups {
    char path[PATH_MAX];
    int fd;          /* of it; holds the lock, ... */
    bool locked;     /* ... if this says so */
    unsigned have;   /* controllers handed down */
    struct buf left; /* names that are still to be removed, each with its NUL */
    bool told;       /* that a group could not be made */
};

/* ---- files ---- */

static ssize_t read_at(int dir, const char *path, char out[TEXT]) {
    _cleanup_close_ int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, TEXT - 1);
    out[n > 0 ? n : 0] = '\0';
    return n;
}

static int write_at(int dir, const char *path, const char *text) {
    _cleanup_close_ int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static const char *file_of(const char *name, const char *file, char out[FILE_PATH]) {
    snprintf(out, FILE_PATH, "%s%s%s", name, *name ? "/" : "", file);
    return out;
}

static int put(struct cgroups *g, const char *name, const char *file, const char *text) {
    char path[FILE_PATH];
    return write_at(g->fd, file_of(name, file, path), text);
}

static void put_number(struct cgroups *g, const char *name, const char *file, uint64_t v) {
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, v);
    int r = v ? put(g, name, file, text) : 0;
    if (r < 0) {
        log_warn(NULL, "cgroup %s: %s = %s: %s", name, file, text, strerror(-r));
    }
}

/* ---- finding ours ---- */

/* The mount of version 2, and where in it we are: "/sys/fs/cgroup" "/system.slice/hearthd.service". */
static bool find_own(char out[PATH_MAX]) {
    static char mounts[65536], text[TEXT];
    _cleanup_close_ int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    for (ssize_t got; fd >= 0 && n < sizeof(mounts) - 1 &&
                      (got = read(fd, mounts + n, sizeof(mounts) - 1 - n)) > 0;) {
        n += (size_t)got;
    }
    mounts[n] = '\0';
    const char *own =
        read_at(AT_FDCWD, "/proc/self/cgroup", text) > 0 ? strstr(text, "0::/") : NULL;
    if (!own) {
        return false;
    }
    own += strlen("0::");
    char *rest = NULL;
    for (char *line = strtok_r(mounts, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char root[PATH_MAX], point[PATH_MAX];
        if (strstr(line, " - cgroup2 ") &&
            sscanf(line, "%*s %*s %*s %4095s %4095s", root, point) == 2 && strcmp(root, "/") == 0) {
            return snprintf(out, PATH_MAX, "%s%.*s", point, (int)strcspn(own, "\n"), own) <
                   PATH_MAX;
        }
    }
    return false;
}

static bool is_delegated(const char *path) {
    char mark[4] = "";
    return (getxattr(path, "user.delegate", mark, sizeof(mark)) > 0 ||
            getxattr(path, "trusted.delegate", mark, sizeof(mark)) > 0) &&
           mark[0] == '1';
}

/* False: it cannot be had. */
static bool make(struct cgroups *g, const char *name) {
    if (mkdirat(g->fd, name, 0755) == 0 || errno == EEXIST) {
        return true;
    }
    if (!g->told) {
        log_warn(NULL, "cgroup %s cannot be made: %s", name, strerror(errno));
        g->told = true;
    }
    return false;
}

/* ---- removing ---- */

static void remove_at(struct cgroups *g, const char *name) {
    if (unlinkat(g->fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
        return;
    }
    if (buf_append(&g->left, name, strlen(name) + 1) < 0) {
        log_debug(NULL, "cgroup %s stays", name);
    }
}

bool cgroups_turn(struct cgroups *g) {
    if (!g || buf_len(&g->left) == 0) {
        return false;
    }
    struct buf before = g->left;
    g->left = (struct buf)BUF_INIT;
    const char *at = buf_head(&before), *end = at + buf_len(&before);
    for (; at < end; at += strlen(at) + 1) {
        remove_at(g, at);
    }
    buf_deinit(&before);
    return buf_len(&g->left) > 0;
}

static bool is_ours(const char *name) {
    return strncmp(name, "pool.", 5) == 0 || strcmp(name, "processes") == 0;
}

/* Calls fn for each directory in `name` ("": the top). */
static void each_below(struct cgroups *g, const char *name, bool all,
                       void (*fn)(struct cgroups *g, const char *below)) {
    int fd = openat(g->fd, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    char below[CGROUP_NAME];
    for (const struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (e->d_type == DT_DIR && e->d_name[0] != '.' && (all || is_ours(e->d_name)) &&
            snprintf(below, sizeof(below), "%s%s%s", name, *name ? "/" : "", e->d_name) <
                (int)sizeof(below)) {
            fn(g, below);
        }
    }
    if (d) {
        closedir(d);
    }
}

static void remove_tree(struct cgroups *g, const char *name) {
    each_below(g, name, true, cgroup_end);
    cgroup_end(g, name);
}

/* Only what is empty. */
static void trim(struct cgroups *g, const char *name) {
    unlinkat(g->fd, name, AT_REMOVEDIR);
}

static void trim_tree(struct cgroups *g, const char *name) {
    each_below(g, name, true, trim);
    trim(g, name);
}

void cgroups_clean(struct cgroups *g, bool in_use) {
    if (g) {
        each_below(g, "", false, in_use ? trim_tree : remove_tree);
        make(g, "processes");
    }
}

/* ---- opening ---- */

/* Hands the controllers that there are down from a group. */
static unsigned hand_down(struct cgroups *g, const char *name, unsigned wanted) {
    unsigned have = 0;
    for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
        char text[16];
        snprintf(text, sizeof(text), "+%s", controllers[i].name);
        if ((wanted & controllers[i].bit) && put(g, name, "cgroup.subtree_control", text) == 0) {
            have |= controllers[i].bit;
        }
    }
    return have;
}

static void tell(const struct cgroups *g) {
    char what[64] = "";
    for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
        if (g->have & controllers[i].bit) {
            snprintf(what + strlen(what), sizeof(what) - strlen(what), "%s%s", *what ? ", " : "",
                     controllers[i].name);
        }
    }
    log_info(NULL, "cgroups: %s, %s%s", g->path, *what ? "with " : "without controllers",
             *what ? what : ": they hold processes together and bound nothing");
}

/* 0, or -errno with the step that failed. */
static int take(struct cgroups *g, const char **ret_what) {
    struct statfs fs;
    *ret_what = "open";
    g->fd = open(g->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g->fd < 0 || fstatfs(g->fd, &fs) < 0) {
        return -errno;
    }
    *ret_what = "it is not in a cgroup2 file system";
    if (fs.f_type != CGROUP2_SUPER_MAGIC) {
        return -EINVAL;
    }
    *ret_what = "another daemon has it";
    if (flock(g->fd, LOCK_EX | LOCK_NB) < 0) {
        return -errno;
    }
    g->locked = true;
    *ret_what = "supervisor";
    if (mkdirat(g->fd, "supervisor", 0755) < 0 && errno != EEXIST) {
        return -errno;
    }
    int r = put(g, "supervisor", "cgroup.procs", "0");
    if (r < 0) {
        unlinkat(g->fd, "supervisor", AT_REMOVEDIR);
        return r;
    }
    g->have = hand_down(g, "", MEMORY | CPU | PIDS);
    return 0;
}

static int open_at(const char *path, bool asked, struct cgroups **ret) {
    const char *what = "memory";
    struct cgroups *g = calloc(1, sizeof(*g));
    int r = -ENOMEM;
    if (g) {
        g->fd = -1;
        snprintf(g->path, sizeof(g->path), "%s", path);
        r = take(g, &what);
    }
    if (r == 0) {
        tell(g);
        *ret = g;
        return 0;
    }
    log_at(asked ? LOG_LEVEL_ERR : LOG_LEVEL_WARNING, NULL, "cgroup %s cannot be used: %s: %s",
           path, what, strerror(-r));
    cgroups_close(g, false);
    return asked ? r : 0;
}

int cgroups_open(const struct config *c, struct cgroups **ret) {
    char path[PATH_MAX];
    *ret = NULL;
    if (c->cgroup[0] == '/') {
        return open_at(c->cgroup, true, ret);
    }
    if (strcmp(c->cgroup, "none") != 0 && find_own(path) && is_delegated(path)) {
        return open_at(path, false, ret);
    }
    log_info(NULL, "no cgroups%s: process groups, the subreaper and rlimits do",
             strcmp(c->cgroup, "none") == 0
                 ? ""
                 : " (none is delegated: Delegate=yes, or cgroup = PATH)");
    return 0;
}

/* Takes the controllers back: or nobody may be in the group itself. */
static void take_back(struct cgroups *g, const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
        char text[16];
        snprintf(text, sizeof(text), "-%s", controllers[i].name);
        if (g->have & controllers[i].bit) {
            put(g, name, "cgroup.subtree_control", text);
        }
    }
}

struct cgroups *cgroups_close(struct cgroups *g, bool in_use) {
    if (!g) {
        return NULL;
    }
    if (g->locked) {
        each_below(g, "", false, in_use ? trim_tree : remove_tree);
        cgroups_turn(g);
        each_below(g, "", false, take_back);
        take_back(g, "");
        if (put(g, "", "cgroup.procs", "0") == 0) {
            unlinkat(g->fd, "supervisor", AT_REMOVEDIR);
        }
    }
    if (g->fd >= 0) {
        close(g->fd);
    }
    buf_deinit(&g->left);
    free(g);
    return NULL;
}

/* ---- making ---- */

static int join_fd(struct cgroups *g, const char *name) {
    char path[FILE_PATH];
    return openat(g->fd, file_of(name, "cgroup.procs", path), O_RDWR | O_CLOEXEC);
}

/* What is asked for and not kept. */
static void tell_missing(const struct cgroups *g, const struct pool_config *c) {
    unsigned want =
        (c->cgroup_memory_max || c->cgroup_memory_high || c->cgroup_pool_memory ? MEMORY : 0) |
        (c->cgroup_cpu_weight ? CPU : 0) | (c->cgroup_pids_max ? PIDS : 0);
    unsigned lack = want & ~(g ? g->have : 0);
    if (lack) {
        log_warn(LOG_ABOUT(.pool = c->name), "its cgroup_ keys are not kept: there %s%s%s%s here",
                 g ? "is no controller" : "are no cgroups", lack & MEMORY && g ? " memory" : "",
                 lack & CPU && g ? " cpu" : "", lack & PIDS && g ? " pids" : "");
    }
}

void cgroup_pool(struct cgroups *g, const struct pool_config *c, int *ret_fd) {
    char name[CGROUP_NAME], zygote[CGROUP_NAME + 8];
    *ret_fd = -1;
    tell_missing(g, c);
    snprintf(name, sizeof(name), "pool.%s", c->name);
    snprintf(zygote, sizeof(zygote), "%s/zygote", name);
    if (!g || !make(g, name)) {
        return;
    }
    hand_down(g, name, g->have);
    if (g->have & MEMORY) {
        put_number(g, name, "memory.max", c->cgroup_pool_memory);
    }
    if (g->have & CPU) {
        put_number(g, name, "cpu.weight", c->cgroup_cpu_weight);
    }
    if (make(g, zygote)) {
        *ret_fd = join_fd(g, zygote);
    }
}

void cgroup_pool_end(struct cgroups *g, const struct pool_config *c) {
    char name[CGROUP_NAME];
    snprintf(name, sizeof(name), "pool.%s", c->name);
    if (g) {
        remove_tree(g, name);
    }
}

void cgroup_worker_name(const struct worker *w, char out[CGROUP_NAME]) {
    snprintf(out, CGROUP_NAME, "pool.%s/worker.%u.%u", w->pool->config->name, w->slot, w->gen);
}

void cgroup_worker(struct cgroups *g, const struct worker *w, const struct pool_config *c,
                   int *ret_fd) {
    char name[CGROUP_NAME];
    *ret_fd = -1;
    cgroup_worker_name(w, name);
    if (!g || !make(g, name)) {
        return;
    }
    if (g->have & MEMORY) {
        put_number(g, name, "memory.max", c->cgroup_memory_max);
        put_number(g, name, "memory.high", c->cgroup_memory_high);
        put(g, name, "memory.oom.group", "1");
    }
    if (g->have & PIDS) {
        put_number(g, name, "pids.max", c->cgroup_pids_max);
    }
    *ret_fd = join_fd(g, name);
}

void cgroup_process_name(uint64_t id, uint32_t run, char out[CGROUP_NAME]) {
    snprintf(out, CGROUP_NAME, "processes/%" PRIu64 ".%u", id, run);
}

void cgroup_process(struct cgroups *g, uint64_t id, uint32_t run, int *ret_fd) {
    char name[CGROUP_NAME];
    cgroup_process_name(id, run, name);
    *ret_fd = g && make(g, name) ? join_fd(g, name) : -1;
}

/* ---- what is in them ---- */

void cgroup_move(struct cgroups *g, const char *name, int pid) {
    if (g) {
        char text[16];
        snprintf(text, sizeof(text), "%d", pid);
        put(g, name, "cgroup.procs", text);
    }
}

static bool is_listed(const char *pids, pid_t pid) {
    for (const char *at = pids; *at; at += strcspn(at, "\n") + 1) {
        if (strtol(at, NULL, 10) == pid) {
            return true;
        }
        if (!strchr(at, '\n')) {
            break;
        }
    }
    return false;
}

void cgroup_members(struct cgroups *g, const char *name, struct family *ret) {
    char path[FILE_PATH], text[TEXT];
    uint32_t first = ret->n;
    if (!g || read_at(g->fd, file_of(name, "cgroup.procs", path), text) <= 0) {
        return;
    }
    for (char *at = text, *end; ret->n < FAMILY_MAX; at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (end == at || *end != '\n') {
            break;
        }
        int fd = pid > 1 ? pidfd_open(pid, 0) : -1;
        if (fd >= 0) {
            ret->pid[ret->n] = pid;
            ret->fd[ret->n++] = fd;
        }
    }
    /* a number that is still listed was not another's when it was opened */
    read_at(g->fd, path, text);
    for (uint32_t i = first; i < ret->n;) {
        if (is_listed(text, ret->pid[i])) {
            i++;
            continue;
        }
        close(ret->fd[i]);
        ret->n--;
        ret->pid[i] = ret->pid[ret->n];
        ret->fd[i] = ret->fd[ret->n];
    }
}

void cgroup_kill(struct cgroups *g, const char *name) {
    if (!g || put(g, name, "cgroup.kill", "1") != -ENOENT) {
        return;
    }
    for (int i = 0; i < KILL_ROUNDS; i++) { /* a kernel before 5.14, or it is gone */
        struct family f = {0};
        cgroup_members(g, name, &f);
        bool none = f.n == 0;
        family_kill(&f);
        family_release(&f);
        if (none) {
            return;
        }
    }
}

bool cgroup_was_short(struct cgroups *g, const char *name) {
    char path[FILE_PATH], text[TEXT];
    if (!g || read_at(g->fd, file_of(name, "memory.events", path), text) <= 0) {
        return false;
    }
    const char *at = strstr(text, "oom_kill ");
    return at && strtoull(at + strlen("oom_kill "), NULL, 10) > 0;
}

void cgroup_end(struct cgroups *g, const char *name) {
    if (g) {
        cgroup_kill(g, name);
        remove_at(g, name);
    }
}
