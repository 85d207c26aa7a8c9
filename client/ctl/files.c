/* SPDX-License-Identifier: MIT */
/* Payloads from files, and lines from standard input.
 *
 * Fails: false, after saying which file and why. */
#include "client/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/fd.h"

bool ctl_read_file(struct ctl *c, const char *name, char **ret, size_t *ret_len) {
    bool standard = strcmp(name, "-") == 0;
    _cleanup_close_ int fd = standard ? -1 : open(name, O_RDONLY | O_CLOEXEC);
    if (!standard && fd < 0) {
        ctl_say(c, 0, "cannot open %s: %s", name, strerror(errno));
        return false;
    }
    int r = fd_read_all(standard ? 0 : fd, CTL_PAYLOAD_MAX, ret, ret_len);
    if (r < 0) {
        ctl_say(c, 0, "cannot read %s: %s", standard ? "standard input" : name,
                r == -EFBIG ? "longer than 64 MiB, the most a payload may be" : strerror(-r));
        return false;
    }
    return true;
}

/* Reads more, if there is something now. 0, or -EAGAIN, -ENOMEM, -errno. */
static int fill(struct ctl_lines *l) {
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&p, 1, 0) <= 0) {
        return -EAGAIN;
    }
    if (l->cap - l->tail < 4096) {
        size_t len = l->tail - l->head, cap = len * 2 < 65536 ? 65536 : len * 2;
        char *data = malloc(cap);
        if (!data) {
            return -ENOMEM;
        }
        if (len) {
            memcpy(data, l->data + l->head, len);
        }
        free(l->data);
        l->data = data;
        l->scanned -= l->head;
        l->head = 0;
        l->tail = len;
        l->cap = cap;
    }
    ssize_t n = read(STDIN_FILENO, l->data + l->tail, l->cap - l->tail);
    if (n < 0) {
        return errno == EINTR ? -EAGAIN : -errno;
    }
    l->ended = n == 0;
    l->tail += (size_t)n;
    return 0;
}

static char *find_separator(const struct ctl_lines *l, char separator) {
    size_t left = l->tail - l->scanned;
    return left ? memchr(l->data + l->scanned, separator, left) : NULL;
}

int ctl_line(struct ctl_lines *l, char separator, char **ret, size_t *ret_len) {
    char *end;
    while (!(end = find_separator(l, separator))) {
        l->scanned = l->tail;
        if (l->ended) {
            break;
        }
        if (l->tail - l->head > CTL_PAYLOAD_MAX) {
            return -EFBIG;
        }
        int r = fill(l);
        if (r < 0) {
            return r;
        }
    }
    size_t len = (end ? (size_t)(end - l->data) : l->tail) - l->head;
    if (!end && len == 0) {
        return 0;
    }
    char *line = malloc(len + 1);
    if (!line) {
        return -ENOMEM;
    }
    memcpy(line, l->data + l->head, len);
    line[len] = 0;
    l->head += len + (end != NULL);
    l->scanned = l->head;
    *ret = line;
    *ret_len = len;
    return 1;
}
