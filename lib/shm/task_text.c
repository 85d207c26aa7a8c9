/* SPDX-License-Identifier: MIT */
/* Tasks in words: state and cause names, ids, causes for people. Pure. Fails: -EINVAL for a text
 * that is no id. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/shm/task.h"

const char *const task_state_names[TASK_STATES] = {
    [TASK_FREE] = "free",           [TASK_BUILDING] = "building", [TASK_WAITING] = "waiting",
    [TASK_QUEUED] = "queued",       [TASK_RUNNING] = "running",   [TASK_DONE] = "done",
    [TASK_FAILED] = "failed",       [TASK_LOST] = "lost",         [TASK_TIMEOUT] = "timeout",
    [TASK_CANCELLED] = "cancelled", [TASK_EXPIRED] = "expired",   [TASK_FREEING] = "freeing",
};

const char *const task_cause_names[TASK_CAUSES] = {
    [CAUSE_NONE] = "none",           [CAUSE_RESULT] = "result",     [CAUSE_ERROR] = "error",
    [CAUSE_SIGNAL] = "signal",       [CAUSE_EXIT] = "exit",         [CAUSE_TIMEOUT] = "timeout",
    [CAUSE_CANCELLED] = "cancelled", [CAUSE_STOPPING] = "stopping", [CAUSE_START] = "start",
    [CAUSE_EXPIRED] = "expired",     [CAUSE_DEADLINE] = "deadline", [CAUSE_HANGUP] = "hangup",
    [CAUSE_SOFT] = "soft",           [CAUSE_MEMORY] = "memory",     [CAUSE_DAEMON] = "daemon",
};

static size_t hex_put(char *out, uint64_t v) {
    size_t n = 1;
    for (uint64_t rest = v >> 4; rest; rest >>= 4) {
        n++;
    }
    for (size_t i = n; i-- > 0; v >>= 4) {
        out[i] = "0123456789abcdef"[v & 15];
    }
    return n;
}

size_t task_id_text(char out[TASK_ID_TEXT], uint64_t id, uint32_t idx) {
    size_t n = hex_put(out, id);
    out[n++] = '-';
    n += hex_put(out + n, idx);
    out[n] = '\0';
    return n;
}

/* 1 to max lower-case hex digits; -EINVAL. */
static int hex_get(const char *text, size_t len, size_t max, uint64_t *ret) {
    uint64_t v = 0;
    if (len == 0 || len > max || (len > 1 && text[0] == '0')) {
        return -EINVAL;
    }
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c >= '0' && c <= '9') {
            v = v << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return -EINVAL;
        }
    }
    *ret = v;
    return 0;
}

int task_id_parse(const char *text, size_t len, uint64_t *ret_id, uint32_t *ret_idx) {
    const char *dash = len ? memchr(text, '-', len) : NULL;
    uint64_t id, idx;
    if (!dash || hex_get(text, (size_t)(dash - text), 16, &id) ||
        hex_get(dash + 1, len - (size_t)(dash + 1 - text), 8, &idx)) {
        return -EINVAL;
    }
    *ret_id = id;
    *ret_idx = (uint32_t)idx;
    return 0;
}

static void put_memory(int32_t kib, char out[96]) {
    if (kib == 0) {
        snprintf(out, 96, "killed by the kernel: out of memory");
    } else if (kib % 1024 == 0) {
        snprintf(out, 96, "memory limit of %d MiB", kib / 1024);
    } else {
        snprintf(out, 96, "memory limit of %d KiB", kib);
    }
}

void task_cause_text(const struct task_view *v, char out[96]) {
    const char *name = v->cause == CAUSE_SIGNAL ? sigabbrev_np(v->signal) : NULL;
    switch (v->cause) {
    case CAUSE_ERROR:
        snprintf(out, 96, "error %d", v->code);
        break;
    case CAUSE_SIGNAL:
        snprintf(out, 96, "signal %u (%s%s)%s", v->signal, name ? "SIG" : "", name ? name : "?",
                 v->core ? ", core dumped" : "");
        break;
    case CAUSE_EXIT:
        snprintf(out, 96, "exit status %d", v->code);
        break;
    case CAUSE_TIMEOUT:
        snprintf(out, 96, "time limit of %u ms", v->timeout_ms);
        break;
    case CAUSE_EXPIRED:
        snprintf(out, 96, "not begun in time");
        break;
    case CAUSE_DEADLINE:
        snprintf(out, 96, "not ended by its deadline");
        break;
    case CAUSE_HANGUP:
        snprintf(out, 96, "the connection of its worker ended");
        break;
    case CAUSE_SOFT:
        snprintf(out, 96, "ended at its soft time limit");
        break;
    case CAUSE_MEMORY:
        put_memory(v->code, out);
        break;
    case CAUSE_DAEMON:
        snprintf(out, 96, "the daemon ended while it ran");
        break;
    case CAUSE_STOPPING:
        snprintf(out, 96, "daemon stopping");
        break;
    case CAUSE_START:
        snprintf(out, 96, "could not start: %s",
                 strerrordesc_np(v->code) ? strerrordesc_np(v->code) : "?");
        break;
    default:
        snprintf(out, 96, "%s", task_cause_names[v->cause]);
    }
}
