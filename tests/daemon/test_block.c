/* SPDX-License-Identifier: MIT */
/* Raw blocks: made, opened, written and read by clients, handlers and the command; what they go with; who may; limits; and that
 * what was given for reading stays so. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/hearth.h"
#include "lib/base/clock.h"
#include "tests/daemon/pool_support.h"
#include "tests/support/child.h"
#include "tests/support/daemon.h"

enum { ADA = 12341, BOB = 12342, EVE = 12343 };

static struct daemon d;
static struct hearth *h;

static void begin(void) {
    char config[1024];
    snprintf(config, sizeof(config),
             "write_users = [ \"%d\" ]; read_users = [ \"%d\" ];\n"
             "limits = { blocks_max = 8; blocks_bytes = \"64M\"; user_block_bytes = \"8K\"; };\n"
             "segment_size = \"16M\"; stop_timeout = 1;\n"
             "pools = ( { name = \"shared\"; workers = 2; threads = 2; "
             "module = \"%s/tests/daemon/mod_shared.so\"; } );\n",
             ADA, BOB, getenv("HEARTH_BUILD"));
    const struct daemon_options options = {.config = config};
    cr_assert_eq(daemon_start(&d, &options), 0);
    cr_assert_eq(daemon_wait_ready(&d, within(20000)), 0, "%s", daemon_log(&d));
    cr_assert_eq(hearth_connect(d.socket, &h), 0, "%s", daemon_log(&d));
}

static void end(void) {
    hearth_close(h);
    h = NULL;
    cr_expect_eq(daemon_stop(&d), 0);
    child_kill_all();
}

TestSuite(block, .init = begin, .fini = end, .timeout = 90);

#define T        hearth_text
#define OK(call) cr_assert_eq((call), 0, "%s: %s", #call, hearth_errmsg(h))

static char *map(int fd, int readonly, uint64_t *ret_size) {
    void *at;
    OK(hearth_block_map(fd, readonly, &at, ret_size));
    return at;
}

/* A figure of BLOCK.INFO; -1: there is no such block. */
static int64_t about(const char *name, const char *field) {
    const char *words[] = {"BLOCK.INFO", name};
    const struct hearth_reply *r;
    OK(hearth_command(h, 2, words, NULL, &r));
    return hearth_reply_type(r) == HEARTH_REPLY_MAP ? hearth_reply_int(hearth_reply_get(r, field))
                                                    : -1;
}

Test(block, one_memory_for_all_who_have_it) {
    int fd, other;
    uint64_t size = 0;
    OK(hearth_block_create(h, T("b"), 10000, 0, &fd));
    cr_expect_eq(hearth_block_create(h, T("b"), 10000, 0, &other), HEARTH_E_EXISTS);
    cr_expect_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    char *a = map(fd, 0, &size);
    cr_assert_eq(size, 10000);
    for (size_t i = 0; i < size; i++) {
        cr_assert_eq(a[i], 0);
    }
    OK(hearth_block_open(h, T("b"), 0, &other, &size));
    cr_assert_eq(size, 10000);
    char *b = map(other, 0, NULL);
    close(fd);
    close(other);
    strcpy(a + 9990, "hello");
    cr_expect_str_eq(b + 9990, "hello");
    cr_expect_eq(about("b", "opened"), 2);
    cr_expect(about("b", "touched") >= 4096);
    OK(hearth_block_unlink(h, T("b")));
    cr_expect_eq(hearth_block_unlink(h, T("b")), HEARTH_E_ABSENT);
    cr_expect_eq(hearth_block_open(h, T("b"), 0, &fd, NULL), HEARTH_E_ABSENT);
    strcpy(b, "still"); /* the name is gone, the memory is not */
    cr_expect_str_eq(a, "still");
    OK(hearth_block_create(h, T("b"), 3, 0, NULL)); /* another one */
    cr_expect_eq(about("b", "size"), 3);
    OK(hearth_block_unmap(a, size));
    OK(hearth_block_unmap(b, size));
}

Test(block, its_size_is_fixed_and_reading_is_reading) {
    int fd, reading;
    void *at;
    char path[32];
    OK(hearth_block_create(h, T("b"), 4096, 0, &fd));
    cr_expect(ftruncate(fd, 100) < 0 && errno == EPERM);
    cr_expect(ftruncate(fd, 10000) < 0 && errno == EPERM);
    cr_expect(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
    OK(hearth_block_open(h, T("b"), 1, &reading, NULL));
    cr_expect_eq(hearth_block_map(reading, 0, &at, NULL), -EACCES);
    cr_expect(write(reading, "x", 1) < 0 && errno == EBADF);
    OK(hearth_block_map(reading, 1, &at, NULL));
    cr_expect(mprotect(at, 4096, PROT_READ | PROT_WRITE) < 0 && errno == EACCES);
    cr_expect_eq(pwrite(fd, "seen", 5, 0), 5);
    cr_expect_str_eq(at, "seen");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", reading);
    if (geteuid() == 0) { /* whom nothing stops; somebody else cannot open it anew */
        cr_assert_eq(seteuid(ADA), 0);
        cr_expect(open(path, O_RDWR | O_CLOEXEC) < 0 && errno == EACCES, "%s", strerror(errno));
        cr_assert_eq(seteuid(0), 0);
    }
    close(fd);
    close(reading);
}

Test(block, it_goes_with_its_manager_and_its_connection) {
    struct hearth *other;
    char prefix[HEARTH_PREFIX_MAX + 1], buf[64];
    struct hearth_bytes name;
    int fd;
    OK(hearth_manager_open(h, prefix));
    OK(hearth_manager_name(prefix, T("b"), buf, sizeof(buf), &name));
    OK(hearth_block_create(h, name, 100, 0, &fd));
    OK(hearth_block_create(h, T("plain"), 100, 0, NULL));
    OK(hearth_manager_close(h, prefix));
    cr_expect_eq(about(buf, "size"), -1);
    cr_expect_eq(hearth_block_create(h, name, 100, 0, NULL), HEARTH_E_ENDED);
    cr_expect_eq(pwrite(fd, "x", 1, 0), 1);
    close(fd);
    OK(hearth_connect(d.socket, &other));
    OK(hearth_block_create(other, T("owned"), 100, HEARTH_BLOCK_OWNED, NULL));
    OK(hearth_block_create(other, T("left"), 100, 0, NULL));
    cr_expect(about("owned", "client") > 0);
    cr_expect_eq(about("left", "client"), 0);
    hearth_close(other);
    for (uint64_t until = clock_now() + (uint64_t)within(5000) * NS_PER_MS;
         about("owned", "size") >= 0;) {
        cr_assert(clock_now() < until, "it is there still");
    }
    cr_expect_eq(about("left", "size"), 100);
    cr_expect_eq(about("plain", "size"), 100);
}

Test(block, handlers_and_clients_share_them) {
    struct hearth_result r;
    const char *args[] = {"b"};
    struct hearth_task t = {.pool = "shared",
                            .handler = "fill",
                            .payload = "x",
                            .payload_len = 1,
                            .args = args,
                            .n_args = 1};
    int fd;
    uint64_t size;
    OK(hearth_block_create(h, T("b"), 70000, 0, &fd));
    char *at = map(fd, 1, &size);
    OK(hearth_call(h, &t, &r));
    cr_assert_eq(r.status, HEARTH_DONE, "%s", r.cause);
    for (size_t i = 0; i < size; i++) {
        cr_assert_eq(at[i], 'x');
    }
    args[0] = "none";
    OK(hearth_call(h, &t, &r));
    cr_expect_eq(r.code, ENOENT, "%s", r.cause);
    OK(hearth_block_open(h, T("warm"), 1, &fd, &size)); /* the zygote's */
    cr_expect_eq(memcmp(map(fd, 1, NULL), "made in init", 12), 0);
    t = (struct hearth_task){.pool = "shared", .handler = "check"};
    for (int i = 0; i < 4; i++) {
        OK(hearth_call(h, &t, &r));
        cr_expect_str_eq(r.data, "well", "%s", r.cause);
    }
}

Test(block, limits) {
    char name[8];
    OK(hearth_block_create(h, T("big"), 60 << 20, 0, NULL)); /* only what is touched is memory */
    cr_expect_eq(hearth_block_create(h, T("more"), 5 << 20, 0, NULL), HEARTH_E_QUOTA);
    cr_expect(strstr(hearth_errmsg(h), "blocks_bytes"), "%s", hearth_errmsg(h));
    for (int i = 0; i < 6; i++) { /* there is the zygote's too */
        snprintf(name, sizeof(name), "b%d", i);
        OK(hearth_block_create(h, T(name), 1, 0, NULL));
    }
    cr_expect_eq(hearth_block_create(h, T("more"), 1, 0, NULL), HEARTH_E_QUOTA);
    cr_expect(strstr(hearth_errmsg(h), "blocks_max"), "%s", hearth_errmsg(h));
    OK(hearth_block_unlink(h, T("b3")));
    OK(hearth_block_create(h, T("more"), 1, 0, NULL));
    cr_expect_eq(hearth_block_create(h, T("x"), 0, 0, NULL), HEARTH_E_REFUSED);
    char *longest = calloc(1, 300);
    memset(longest, 'n', 256);
    cr_expect_eq(hearth_block_create(h, T(longest), 1, 0, NULL), HEARTH_E_REFUSED);
    free(longest);
    const char *words[] = {"BLOCK.LIST", "b*"};
    const struct hearth_reply *r;
    OK(hearth_command(h, 2, words, NULL, &r));
    cr_assert_eq(hearth_reply_count(r), 6);
    cr_expect_str_eq(hearth_reply_text(hearth_reply_get(hearth_reply_first(r), "name"), NULL),
                     "b0");
}

struct play {
    uid_t uid;
    int create, open, read; /* what these calls are to return */
};

static int as_user(void *arg) {
    const struct play *p = arg;
    struct hearth *mine;
    int fd = -1, r;
    if (setgroups(0, NULL) || setgid(p->uid) || setuid(p->uid) || hearth_connect(d.socket, &mine)) {
        return 1;
    }
    r = hearth_block_create(mine, T("mine"), 6000, 0, &fd);
    if (r != p->create) {
        return 2;
    }
    if (r == 0 && (pwrite(fd, "ada", 4, 0) != 4 ||
                   hearth_block_create(mine, T("second"), 6000, 0, &fd) != HEARTH_E_QUOTA)) {
        return 3;
    }
    if (hearth_block_open(mine, T("root's"), 0, &fd, NULL) != p->open) {
        return 4;
    }
    if (p->open == 0 && pwrite(fd, "x", 1, 0) != 1) {
        return 5;
    }
    if (hearth_block_open(mine, T("root's"), 1, &fd, NULL) != p->read) {
        return 6;
    }
    if (hearth_block_unlink(mine, T("mine")) != p->create) {
        return 7;
    }
    hearth_close(mine);
    return 0;
}

Test(block, roles_and_what_a_user_may_have) {
    if (getuid() != 0) {
        cr_skip_test("only root can be somebody else");
    }
    struct play plays[] = {{ADA, 0, 0, HEARTH_E_REFUSED},
                           {BOB, HEARTH_E_REFUSED, HEARTH_E_REFUSED, 0},
                           {EVE, HEARTH_E_REFUSED, HEARTH_E_REFUSED, HEARTH_E_REFUSED}};
    cr_assert_eq(chmod(d.dir, 0755), 0);
    cr_assert_eq(chmod(d.socket, 0666), 0);
    OK(hearth_block_create(h, T("root's"), 100, 0, NULL));
    for (size_t i = 0; i < sizeof(plays) / sizeof(plays[0]); i++) {
        cr_expect_eq(child_wait(child_start(as_user, &plays[i])), 0, "user %zu", i);
    }
}

Test(block, the_reply_with_a_descriptor_comes_first) {
    const char *words[] = {"MULTI"}, *create[] = {"BLOCK.CREATE", "b", "1"};
    const struct hearth_reply *r;
    OK(hearth_command(h, 1, words, NULL, &r));
    OK(hearth_command(h, 3, create, NULL, &r));
    cr_expect_eq(hearth_reply_type(r), HEARTH_REPLY_ERROR);
    words[0] = "DISCARD";
    OK(hearth_command(h, 1, words, NULL, &r));
    /* with tasks under way, whose ends are pushed between replies */
    struct hearth_result result;
    const char *args[] = {"l"};
    struct hearth_task t = {.pool = "shared", .handler = "push", .args = args, .n_args = 1};
    for (int i = 0; i < 50; i++) {
        uint64_t ticket;
        uint64_t size = 0;
        int fd;
        OK(hearth_submit(h, &t, NULL, NULL, &ticket));
        OK(hearth_block_create(h, T("b"), 100 + (uint64_t)i, 0, &fd));
        char *at = map(fd, 0, &size);
        cr_expect_eq(size, 100 + (uint64_t)i);
        OK(hearth_block_unmap(at, size));
        close(fd);
        OK(hearth_block_unlink(h, T("b")));
    }
    OK(hearth_call(h, &t, &result));
}
