/* SPDX-License-Identifier: MIT */
/* Confinement of what the daemon starts: zygotes, and by inheritance their workers and commands; processes.
 *
 * For all: PR_SET_NO_NEW_PRIVS, so that no set-user-ID program and no file capability gives anything; an empty bounding set
 * and empty sets of capabilities, so that a process of root has none either. The bounding set is emptied once, in the daemon, and
 * inherited: forty system calls fewer at each start. (Permitted ones that are empty stay empty over the
 * exec because of no_new_privs, also where the bounding set may not be changed.)
 *
 * For a pool that asks: a seccomp filter, made by libseccomp here and loaded by the child as a plain array; and a Landlock
 * ruleset, opened here and entered by the child. Both are entered by the zygote, so each worker and command has them from its
 * first instruction, and none can leave. Programs and libraries of the system, the pool's own program or module, /proc (where
 * Landlock itself hides other processes' secrets) and the harmless devices need not be listed.
 *
 * A filter that names what is refused, not what is allowed, is chosen on purpose: handlers are anybody's code with any library,
 * and one that breaks with the next libc is one that is turned off. It takes away what reaches beyond the process.
 *
 * Fails: -errno; a pool that asks for what the kernel or the build does not have is not started. */
#include "daemon/supervise/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#if HAVE_SECCOMP
#include <seccomp.h>
#endif

#include "lib/base/cleanup.h"

enum { CAPS = 64 };

/* ---- Landlock ---- */

#define ACCESS_READ                                                                                \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_V1       ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define ACCESS_REFER    (1ULL << 13) /* version 2 */
#define ACCESS_TRUNCATE (1ULL << 14) /* version 3 */
#define ACCESS_FILE                                                                                \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |   \
     ACCESS_TRUNCATE)

static const char *const system_read[] = {"/usr",   "/bin",  "/sbin",           "/lib",
                                          "/lib64", "/proc", "/etc/ld.so.cache"};
static const char *const system_write[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                           "/dev/urandom"};

/* 0 or -errno. */
static int allow(int ruleset, const char *path, uint64_t access) {
    _cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    struct landlock_path_beneath_attr a = {
        .allowed_access = S_ISDIR(st.st_mode) ? access : access & ACCESS_FILE, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &a, 0) < 0 ? -errno
                                                                                          : 0;
}

static int allow_all(int ruleset, const struct config_strings *paths, uint64_t access,
                     const char **ret_what) {
    for (uint32_t i = 0; i < paths->n; i++) {
        int r = allow(ruleset, paths->v[i], access);
        if (r < 0) {
            *ret_what = paths->v[i];
            return r;
        }
    }
    return 0;
}

static int make_ruleset(const struct pool_config *c, const char *const *own, const char *tmp,
                        int *ret, const char **ret_what) {
    *ret_what = "paths_read, paths_write: Landlock";
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 0) {
        return -errno;
    }
    uint64_t all =
        ACCESS_V1 | (version >= 2 ? ACCESS_REFER : 0) | (version >= 3 ? ACCESS_TRUNCATE : 0);
    struct landlock_ruleset_attr attr = {.handled_access_fs = all};
    _cleanup_close_ int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (fd < 0) {
        return -errno;
    }
    for (size_t i = 0; i < ARRAY_SIZE(system_read); i++) {
        allow(fd, system_read[i], ACCESS_READ); /* not every system has each */
    }
    for (size_t i = 0; i < ARRAY_SIZE(system_write); i++) {
        allow(fd, system_write[i], ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE);
    }
    int r = 0;
    for (; r == 0 && *own; own++) {
        *ret_what = *own;
        r = allow(fd, *own, ACCESS_READ);
    }
    if (r == 0 && tmp) {
        *ret_what = tmp;
        r = allow(fd, tmp, all);
    }
    r = r < 0 ? r : allow_all(fd, &c->paths_read, ACCESS_READ, ret_what);
    r = r < 0 ? r : allow_all(fd, &c->paths_write, all, ret_what);
    if (r == 0) {
        *ret = steal_fd(&fd);
    }
    return r;
}

/* ---- seccomp ---- */

#if HAVE_SECCOMP
/* What reaches beyond the process: other processes, the kernel, mounts, clocks. */
static const char *const refused[] = {
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "vhangup",
    "vmsplice",
};

static int add_rules(scmp_filter_ctx ctx, enum pool_seccomp level) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(refused); i++) {
        int number = seccomp_syscall_resolve_name(refused[i]);
        if (number >= 0) { /* this architecture has it */
            r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), number, 0);
        }
    }
    static const uint64_t each[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                    CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(each); i++) {
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, each[i], each[i]));
    }
    /* its flags are out of a filter's sight: libc takes clone() then */
    r = r < 0 ? r : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    r = r < 0 ? r
              : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                                 SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, TIOCSTI));
    if (level == POOL_SECCOMP_OFFLINE && r == 0) {
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_NE, AF_UNIX));
    }
    return r;
}

static int read_filter(int fd, struct sock_fprog *ret) {
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    size_t n = (size_t)st.st_size;
    _cleanup_free_ struct sock_filter *code = malloc(n);
    if (!code || n / sizeof(*code) > UINT16_MAX) {
        return -ENOMEM;
    }
    if (pread(fd, code, n, 0) != (ssize_t)n) {
        return -EIO;
    }
    ret->len = (unsigned short)(n / sizeof(*code));
    ret->filter = steal_ptr(code);
    return 0;
}

static int make_filter(enum pool_seccomp level, struct sock_fprog *ret) {
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    _cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
    int r = !ctx ? -ENOMEM : fd < 0 ? -errno : add_rules(ctx, level);
    r = r < 0 ? r : seccomp_export_bpf(ctx, fd);
    r = r < 0 ? r : read_filter(fd, ret);
    if (ctx) {
        seccomp_release(ctx);
    }
    return r;
}
#else
static int make_filter(enum pool_seccomp level, struct sock_fprog *ret) {
    (void)level;
    (void)ret;
    return -EOPNOTSUPP; /* built without libseccomp */
}
#endif

/* ---- both ---- */

int confine_prepare(const struct pool_config *c, const char *const *own, const char *tmp,
                    struct confinement *ret, const char **ret_what) {
    struct confinement made = {.ruleset_fd = -1};
    int r = 0;
    if (c->paths_read.n + c->paths_write.n > 0) {
        r = make_ruleset(c, own, tmp, &made.ruleset_fd, ret_what);
    }
    if (r == 0 && c->seccomp != POOL_SECCOMP_NONE) {
        *ret_what = "seccomp";
        r = make_filter(c->seccomp, &made.filter);
    }
    if (r < 0) {
        confine_release(&made);
        return r;
    }
    *ret = made;
    return 0;
}

void confine_release(struct confinement *c) {
    if (c->ruleset_fd >= 0) {
        close(c->ruleset_fd);
    }
    free(c->filter.filter);
    *c = (struct confinement){.ruleset_fd = -1};
}

/* ---- in the daemon, for all its children ---- */

void confine_open(void) {
    for (unsigned long i = 0; i < CAPS && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0; i++) {
        /* until there are no more; one without privileges may not, and need not */
    }
}

/* ---- in the child ---- */

int confine_first(const struct confinement *c, const char **ret_what) {
    *ret_what = "no_new_privs";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return -errno;
    }
    *ret_what = "landlock_restrict_self";
    if (c && c->ruleset_fd >= 0 && syscall(SYS_landlock_restrict_self, c->ruleset_fd, 0) < 0) {
        return -errno;
    }
    return 0;
}

/* capset() itself may be forbidden, as it is by the units. */
static bool has_any(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = {0};
    uint32_t any = syscall(SYS_capget, &head, have);
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        any |= have[i].effective | have[i].permitted | have[i].inheritable;
    }
    return any != 0;
}

int confine_last(const struct confinement *c, const char **ret_what) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    *ret_what = "capabilities";
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (has_any() && syscall(SYS_capset, &head, none) < 0) {
        return -errno;
    }
    *ret_what = "seccomp";
    if (c && c->filter.len > 0 &&
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &c->filter) < 0) {
        return -errno;
    }
    return 0;
}
