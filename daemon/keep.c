/* SPDX-License-Identifier: MIT */
/* The segment outlives the daemon if somebody else holds it meanwhile: the service manager's store of descriptors, or a file
 * on tmpfs. Which (segment_path = "auto"):
 *
 *   $FDSTORE says that there is a store          a memfd in the store, from the moment it exists (the unit sets it; systemd
 *                                                254 and later set it themselves)
 *   the socket is ours, on tmpfs in a directory  a file beside it: SOCKET.segment
 *   for run-time files
 *   else                                         memory that ends with the daemon
 *
 * Two daemons must never serve one segment. In the store they cannot: the manager starts one at a time. A file has a lock
 * file beside it, held for life (flock: it goes with its holder, however he dies, and no child inherits it).
 *
 * What is found but cannot be used (another layout, or damaged) is set aside and never written to: a file is renamed, and
 * what is in the store stays there, where a daemon of the other version finds it again. A file without a magic number is what
 * a daemon left that was killed before it had made a segment of it, and is made anew.
 *
 * Fails: -errno, with the reason and what to do in the log. */
#include "daemon/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "daemon/lockfile.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/supervise/supervise.h"
#include "lib/base/cleanup.h"
#include "lib/shm/slot.h"

#define ABOUT LOG_ABOUT(.message = MESSAGE_SEGMENT)

/* of a daemon; there is one */
static struct {
    char *path;    /* of the file; NULL: none */
    int lock;      /* its lock; -1: none */
    bool in_store; /* the manager's */
    bool asked;    /* segment_path names it */
    const char *why;
} kept = {.lock = -1};

const char *keep_where(const struct hearthd *d) {
    return kept.in_store ? "the service manager's file descriptor store"
           : kept.path   ? kept.path
           : d->kept     ? "somewhere"
                         : "memory of its own";
}

static const char *why_not(int r) {
    return r == -EPROTO    ? "it is of another version of Hearth (which can hearth dump it)"
           : r == -EBADMSG ? "it is damaged, or no segment"
                           : strerror(-r);
}

static int make(struct hearthd *d, int fd) {
    struct shm_params params = {
        .size = d->config->segment_size,
        .slots = supervise_slots(d->config),
        .tasks = d->config->tasks_max,
    };
    int r = fd >= 0 ? shm_create_in(&d->shm, &params, fd) : shm_create(&d->shm, &params);
    if (r < 0) {
        log_err(ABOUT, "cannot make a segment of %llu bytes: %s",
                (unsigned long long)d->config->segment_size,
                r == -EINVAL ? "too small for its pools and tasks_max" : strerror(-r));
    }
    return r;
}

/* ---- the store ---- */

static bool has_store(void) {
    const char *n = getenv("FDSTORE");
    return n && atoi(n) > 0 && getenv("NOTIFY_SOCKET");
}

static int from_store(struct hearthd *d) {
    int at = 0, fd;
    while ((fd = passed_fd(KEEP_SEGMENT, &at)) >= 0) {
        int r = shm_attach(&d->shm, fd);
        close(fd); /* the manager has it still, and so has the handle */
        if (r == 0) {
            d->found = true;
            log_notice(ABOUT, "took the segment back that the former daemon has left");
            return 0;
        }
        log_err(
            ABOUT,
            "a segment that the service manager keeps cannot be used: %s; it stays there, for the "
            "version that it belongs to, until the service is stopped",
            why_not(r));
    }
    int r = make(d, -1);
    if (r == 0) {
        r = notify_store(KEEP_SEGMENT, d->shm.fd);
        if (r < 0) {
            log_err(ABOUT, "cannot hand the segment to the service manager: %s", strerror(-r));
        }
    }
    return r;
}

/* ---- a file ---- */

/* Is the socket's directory one for files that live until the next boot? */
static bool is_runtime(const char *path) {
    const char *const roots[] = {getenv("XDG_RUNTIME_DIR"), getenv("RUNTIME_DIRECTORY"), "/run"};
    _cleanup_free_ char *dir = strdup(path);
    char *end = dir ? strrchr(dir, '/') : NULL;
    struct statfs fs;
    if (!end || end == dir) {
        return false;
    }
    *end = '\0';
    if (statfs(dir, &fs) < 0 || fs.f_type != TMPFS_MAGIC || access(dir, W_OK) < 0) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
        size_t n = roots[i] ? strlen(roots[i]) : 0;
        if (n > 1 && strncmp(dir, roots[i], n) == 0 && (dir[n] == '/' || dir[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static int take_lock(const char *path) {
    int r = lockfile_take(path, &kept.lock);
    if (r == -EADDRINUSE) {
        log_err(ABOUT, "another daemon has %s: stop it first, or choose another segment_path",
                path);
    } else if (r < 0) {
        log_err(ABOUT, "cannot make the lock file %s.lock: %s", path, strerror(-r));
    }
    return r;
}

static bool is_unfinished(int fd) {
    uint64_t magic = 0;
    return pread(fd, &magic, sizeof(magic), 0) <= 0 || magic == 0;
}

static int set_aside(const char *path, int why) {
    _cleanup_free_ char *to = NULL;
    if (asprintf(&to, "%s.%lld", path, (long long)time(NULL)) < 0) {
        to = NULL;
        return -ENOMEM;
    }
    int r = rename(path, to) < 0 ? -errno : 0;
    log_err(ABOUT, "the segment in %s cannot be used: %s; %s%s", path, why_not(why),
            r < 0 ? "it cannot be set aside: " : "it is set aside as ", r < 0 ? strerror(-r) : to);
    return r;
}

static void check_place(const char *path, int fd, uint64_t size) {
    struct statfs fs;
    struct statvfs v;
    struct stat st;
    uint64_t has = fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    uint64_t needs = size > has ? size - has : 0;
    if (fstatfs(fd, &fs) == 0 && fs.f_type != TMPFS_MAGIC) {
        log_warn(ABOUT, "%s is not on tmpfs: what is written to the segment goes to the disk, too",
                 path);
    }
    if (fstatvfs(fd, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < needs) {
        log_warn(ABOUT,
                 "%s: its file system has %llu MiB left for the %llu MiB that it may yet need: "
                 "when it is "
                 "full, whoever writes to "
                 "the segment is killed (SIGBUS)",
                 path, (unsigned long long)((uint64_t)v.f_bavail * v.f_frsize >> 20),
                 (unsigned long long)(needs >> 20));
    }
}

static int open_file(struct hearthd *d, const char *path) {
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && !is_unfinished(fd)) {
        int r = shm_attach(&d->shm, fd);
        if (r == 0) {
            d->found = true;
            log_notice(ABOUT, "took the segment in %s back that the former daemon has left", path);
            check_place(path, fd, d->shm.size);
            return 0;
        }
        r = set_aside(path, r);
        if (r < 0) {
            return r;
        }
    } else if (fd < 0 && errno != ENOENT) {
        int r = -errno;
        log_err(ABOUT, "cannot open the segment %s: %s", path, strerror(-r));
        return r;
    }
    if (fd >= 0) {
        unlink(path); /* nobody has it mapped: a new file all the same, for its owner and mode */
        close(steal_fd(&fd));
    }
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        int r = -errno;
        log_err(ABOUT, "cannot make the segment %s: %s", path, strerror(-r));
        return r;
    }
    check_place(path, fd, d->config->segment_size);
    int r = make(d, fd);
    if (r < 0) {
        unlink(path);
    }
    return r;
}

static int from_file(struct hearthd *d, const char *path) {
    char *copy = strdup(path);
    if (!copy) {
        return -ENOMEM;
    }
    int r = take_lock(path);
    r = r < 0 ? r : open_file(d, path);
    if (r < 0) {
        free(copy);
        return r;
    }
    kept.path = copy;
    return 0;
}

/* ---- which ---- */

static int choose(struct hearthd *d) {
    const char *wish = d->config->segment_path;
    const char *why = "segment_path = \"none\"";
    if (*wish == '/') {
        kept.asked = true;
        kept.why = "segment_path names it";
        return from_file(d, wish);
    }
    if (strcmp(wish, "auto") == 0) {
        if (has_store()) {
            kept.in_store = true;
            kept.why = "$FDSTORE says that there is one";
            return from_store(d);
        }
        if (is_runtime(d->config->socket_path) && !passed_any()) {
            _cleanup_free_ char *path = NULL;
            if (asprintf(&path, "%s.segment", d->config->socket_path) < 0) {
                path = NULL;
                return -ENOMEM;
            }
            kept.why = "there is no file descriptor store, and the socket's directory is one for "
                       "run-time files on tmpfs";
            return from_file(d, path);
        }
        why = "there is no file descriptor store, and the socket is in no directory for run-time "
              "files "
              "on tmpfs";
    }
    log_info(ABOUT, "the segment ends with the daemon: %s", why);
    return make(d, -1);
}

int keep_open(struct hearthd *d) {
    uint32_t slot, gen;
    int r = choose(d);
    if (r < 0) {
        return r;
    }
    d->kept = kept.in_store || kept.path;
    d->in_store = kept.in_store;
    if (d->kept) {
        log_info(ABOUT, "the segment outlives the daemon in %s (%s)", keep_where(d), kept.why);
    }
    if (d->found && d->shm.size != d->config->segment_size) {
        log_warn(ABOUT,
                 "the segment has %llu bytes, not the %llu of segment_size, which will count for "
                 "the next one: hearth dump FILE, stop, remove it, start, hearth load FILE",
                 (unsigned long long)d->shm.size, (unsigned long long)d->config->segment_size);
    }
    d->shm.patience_ns = 0; /* it only tries, and comes back */
    r = slot_reserve(&d->shm, UINT32_MAX, &slot, &gen);
    r = r < 0 ? r : slot_attach(&d->shm, slot, gen);
    if (r < 0) {
        log_err(ABOUT, "cannot attach to the segment: %s", strerror(-r));
    }
    return r;
}

void keep_advise(const struct hearthd *d) {
    if (d->found && kept.in_store) {
        log_err(ABOUT,
                "the segment is left as it is, for another try; to start without what is in it: "
                "systemctl stop, then start");
    } else if (d->found && kept.path) {
        log_err(ABOUT,
                "the segment is left as it is, for another try; to start without what is in it: "
                "rename %s",
                kept.path);
    }
}

void keep_close(struct hearthd *d, bool all_done) {
    if (kept.path && all_done && !kept.asked) {
        unlink(kept.path);
        lockfile_remove(kept.path, kept.lock);
        kept.lock = -1;
    }
    if (d->shm.mine) {
        slot_set_state(&d->shm, SLOT_RETIRED);
    }
    shm_detach(&d->shm);
    if (kept.lock >= 0) {
        close(kept.lock);
    }
    free(kept.path);
    memset(&kept, 0, sizeof(kept));
    kept.lock = -1;
}
