/* SPDX-License-Identifier: MIT */
/* DURABLE.SYNC: what was committed before it, by whomever, is on the disk when it is answered. The commands that change durable
 * keys need it not, as their own replies wait; it is for what others have done in mapped memory.
 *
 * Fails: replies. */
#include <errno.h>

#include "daemon/durable.h"
#include "daemon/serve/dispatch.h"
#include "daemon/serve/hold.h"
#include "daemon/serve/object.h"
#include "daemon/serve/reply.h"

int cmd_DURABLE_SYNC(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    size_t start = buf_len(&c->out);
    int r = durable_may(c->serve->d);
    (void)argv;
    (void)argc;
    if (r < 0) {
        object_error(c, r);
        return 0;
    }
    reply_ok(c);
    hold_objects(c, start);
    return 0;
}
