/* SPDX-License-Identifier: MIT */
/* ping, info, fsck, raw: the daemon itself.
 *
 * Fails: exit statuses. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

int cmd_ping(struct ctl *c) {
    uint64_t n = 1, best = UINT64_MAX, worst = 0, sum = 0;
    int o;
    while ((o = ctl_option(c)) > 0) {
        if (!ctl_count(c, c->value, 100000000, &n)) {
            return CTL_USAGE;
        }
    }
    if (o == CTL_STOP) {
        return c->status;
    }
    int status = ctl_connect(c);
    for (uint64_t i = 0; i < n && status == CTL_OK; i++) {
        const char *words[] = {"PING"};
        const struct hearth_reply *reply;
        uint64_t begin = clock_now();
        int r = hearth_command(c->h, 1, words, NULL, &reply);
        if (r != 0) {
            return ctl_failed(c, r);
        }
        uint64_t took = clock_now() - begin;
        best = took < best ? took : best;
        worst = took > worst ? took : worst;
        sum += took;
    }
    if (status != CTL_OK) {
        return status;
    }
    double us = (double)sum / (double)n / 1e3;
    if (c->json) {
        printf("{\"socket\":");
        json_text(hearth_path(c->h), strlen(hearth_path(c->h)));
        printf(",\"count\":%llu,\"mean_us\":%.1f,\"min_us\":%.1f,\"max_us\":%.1f}\n",
               (unsigned long long)n, us, (double)best / 1e3, (double)worst / 1e3);
    } else if (n == 1) {
        printf("PONG from %s in %.0f us\n", hearth_path(c->h), us);
    } else {
        printf("%llu PONGs from %s: mean %.1f us, least %.1f us, most %.1f us\n",
               (unsigned long long)n, hearth_path(c->h), us, (double)best / 1e3,
               (double)worst / 1e3);
    }
    return CTL_OK;
}

/* "# Section" and "key:value" lines as {"section":{"key":"value"}}. */
static void info_json(const char *text) {
    bool section = false, item = false;
    putchar('{');
    while (*text) {
        size_t len = strcspn(text, "\r\n");
        const char *colon = memchr(text, ':', len);
        if (text[0] == '#' && len > 2) {
            fputs(section ? "}," : "", stdout);
            json_text(text + 2, len - 2);
            fputs(":{", stdout);
            section = true;
            item = false;
        } else if (colon && section) {
            fputs(item ? "," : "", stdout);
            json_text(text, (size_t)(colon - text));
            putchar(':');
            json_text(colon + 1, len - (size_t)(colon + 1 - text));
            item = true;
        }
        text += len;
        text += strspn(text, "\r\n");
    }
    fputs(section ? "}}\n" : "}\n", stdout);
}

/* The words left behind a first one; the caller's to free(). */
static const char **words_left(struct ctl *c, const char *first, size_t *ret_n) {
    size_t n = 0;
    const char **words = calloc((size_t)c->argc + 2, sizeof(*words));
    if (words) {
        words[n++] = first;
        while (c->argc > 0) {
            words[n++] = ctl_operand(c);
        }
        *ret_n = n;
    }
    return words;
}

int cmd_info(struct ctl *c) {
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    size_t n;
    _cleanup_free_ const char **words = words_left(c, "INFO", &n);
    if (!words) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    const struct hearth_reply *reply;
    int r = hearth_command(c->h, n, words, NULL, &reply);
    if (r != 0) {
        return ctl_failed(c, r);
    }
    if (hearth_reply_type(reply) == HEARTH_REPLY_ERROR) {
        return ctl_refused(c, NULL, reply);
    }
    size_t len;
    const char *text = hearth_reply_text(reply, &len);
    if (c->json) {
        info_json(text);
        return CTL_OK;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '\r') {
            putchar(text[i]);
        }
    }
    return CTL_OK;
}

int cmd_fsck(struct ctl *c) {
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *words[] = {"SEGMENT.CHECK"};
    const struct hearth_reply *r;
    int status = ctl_ask(c, 1, words, NULL, &r);
    if (status != CTL_OK) {
        return status;
    }
    int64_t errors = hearth_reply_int(hearth_reply_get(r, "errors"));
    if (c->json) {
        json_reply(r);
        putchar('\n');
    } else if (errors) {
        printf("%lld errors, the first: %s\n", (long long)errors,
               hearth_reply_text(hearth_reply_get(r, "first_error"), NULL));
    } else {
        printf("all is well: %lld blocks with %s are accounted for, in %s\n",
               (long long)hearth_reply_int(hearth_reply_get(r, "blocks")),
               table_bytes(hearth_reply_int(hearth_reply_get(r, "block_bytes"))),
               table_micros(hearth_reply_int(hearth_reply_get(r, "took_us"))));
    }
    return errors ? CTL_FAILED : CTL_OK;
}

/* ---- raw ---- */

static void print_nested(const struct hearth_reply *r, int depth);

static void print_elements(const struct hearth_reply *r, int depth) {
    bool map = hearth_reply_type(r) == HEARTH_REPLY_MAP;
    const struct hearth_reply *e = hearth_reply_first(r);
    for (size_t n = hearth_reply_count(r), i = 1; i <= n; i++) {
        if (map) {
            printf("%*s", 2 * depth, "");
            ctl_print_value(e);
            putchar(':');
            e = hearth_reply_next(e);
        } else {
            printf("%*s%zu)", 2 * depth, "", i);
        }
        print_nested(e, depth);
        e = hearth_reply_next(e);
    }
}

static void print_nested(const struct hearth_reply *r, int depth) {
    enum hearth_reply_type type = hearth_reply_type(r);
    if (type != HEARTH_REPLY_ARRAY && type != HEARTH_REPLY_MAP) {
        putchar(' ');
        ctl_print_value(r);
        putchar('\n');
    } else if (hearth_reply_count(r) == 0) {
        printf(" (empty)\n");
    } else {
        putchar('\n');
        print_elements(r, depth + 1);
    }
}

static void print_raw(struct ctl *c, const struct hearth_reply *r) {
    enum hearth_reply_type type = hearth_reply_type(r);
    if (c->json) {
        json_reply(r);
        putchar('\n');
    } else if (type == HEARTH_REPLY_ARRAY || type == HEARTH_REPLY_MAP) {
        if (hearth_reply_count(r) == 0) {
            printf("(empty)\n");
        }
        print_elements(r, 0);
    } else {
        ctl_print_value(r);
        putchar('\n');
    }
    fflush(stdout);
}

static void on_push(struct hearth *h, const struct hearth_reply *push, void *arg) {
    (void)h;
    print_raw(arg, push);
}

/* Shows what arrives until a signal. */
static int listen_on(struct ctl *c) {
    ctl_catch_signals();
    while (!ctl_interrupted()) {
        struct pollfd p = {.fd = hearth_get_fd(c->h), .events = (short)hearth_events(c->h)};
        if (poll(&p, 1, -1) < 0 && errno != EINTR) {
            return ctl_say(c, CTL_LOCAL, "%s", strerror(errno));
        }
        int r = hearth_dispatch(c->h);
        if (r != 0) {
            return ctl_failed(c, r);
        }
        if (ferror(stdout)) {
            return CTL_LOCAL;
        }
    }
    return CTL_OK;
}

int cmd_raw(struct ctl *c) {
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *first = ctl_operand(c);
    if (!first) {
        return ctl_usage(c, "which command? WORD is missing");
    }
    size_t n;
    _cleanup_free_ const char **words = words_left(c, first, &n);
    if (!words) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    hearth_on_push(c->h, on_push, c);
    const struct hearth_reply *reply;
    int r = hearth_command(c->h, n, words, NULL, &reply);
    if (r != 0) {
        return ctl_failed(c, r);
    }
    if (!reply) {
        return listen_on(c);
    }
    if (hearth_reply_type(reply) == HEARTH_REPLY_ERROR) {
        return ctl_say(c, CTL_REFUSED, "%s", hearth_reply_text(reply, NULL));
    }
    print_raw(c, reply);
    return CTL_OK;
}
