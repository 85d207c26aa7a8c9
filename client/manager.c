/* SPDX-License-Identifier: MIT */
/* Managers: scopes for shared objects. Opening and closing one is the daemon's to do, so it goes over the connection whether or
 * not the handle has mapped the segment; what belongs to it is decided by names alone.
 *
 * Fails: as hearth.h says. */
#include <string.h>

#include "client/object.h"

int hearth_manager_open(struct hearth *h, char ret_prefix[HEARTH_PREFIX_MAX + 1]) {
    struct hearth_bytes prefix;
    int r = object_ask_text(h, &prefix, WORDS(hearth_text("MANAGER.OPEN")));
    if (r == 0 && prefix.len > HEARTH_PREFIX_MAX) {
        return result_say(h, HEARTH_E_PROTOCOL, "an unexpected kind of reply");
    }
    if (r == 0) {
        memcpy(ret_prefix, prefix.data, prefix.len);
        ret_prefix[prefix.len] = '\0';
    }
    return r;
}

int hearth_manager_close(struct hearth *h, const char *prefix) {
    const struct hearth_reply *reply;
    return object_ask(h, &reply, WORDS(hearth_text("MANAGER.CLOSE"), hearth_text(prefix)));
}

int hearth_manager_name(const char *prefix, struct hearth_bytes name, char *buf, size_t size,
                        struct hearth_bytes *ret) {
    size_t n = strlen(prefix);
    if (n >= size || name.len >= size - n) {
        return -ENAMETOOLONG;
    }
    memcpy(buf, prefix, n);
    if (name.len) {
        memcpy(buf + n, name.data, name.len);
    }
    buf[n + name.len] = '\0';
    ret->data = buf;
    ret->len = n + name.len;
    return 0;
}
