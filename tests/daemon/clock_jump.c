/* SPDX-License-Identifier: MIT */
/* Preloaded into hearthd by clock_jumps.py: the wall clock is ahead by as many nanoseconds as the file $HEARTH_TEST_CLOCK says,
 * which may change at any time; CLOCK_MONOTONIC is as it is, as when an administrator sets the clock. Fails: without the file
 * the time is the real one. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void map_it(void) {
    const char *path = getenv("HEARTH_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd >= 0 ? mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    ahead = at == MAP_FAILED ? NULL : at;
    if (fd >= 0) {
        close(fd);
    }
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *t) {
    const int64_t second = 1000000000;
    int r = (int)syscall(SYS_clock_gettime, id, t);
    if (r == 0 && ahead && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)t->tv_sec * second + t->tv_nsec + *ahead;
        t->tv_sec = (time_t)(ns / second);
        t->tv_nsec = (long)(ns % second);
    }
    return r;
}

__attribute__((visibility("default"))) time_t time(time_t *ret) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (ret) {
        *ret = t.tv_sec;
    }
    return t.tv_sec;
}
