/* SPDX-License-Identifier: MIT */
/* map --split: one payload, which the daemon splits into chunks (TASK.MAP), and the results in the order of the chunks.
 *
 * Results are fetched as the tasks end and kept until it is their turn, since the daemon does not keep them for ever. Asked is for
 * the first WINDOW that are missing, so that a question stays short however many chunks there are; tasks begin in about their
 * order, so those behind have hardly ended yet. The tasks are OWNED: Ctrl-C ends the connection, and that cancels them.
 *
 * Fails: exit statuses, as map. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"

enum { WINDOW = 256, FIXED_WORDS = 4 + 2 + 2 + 2 + 1 };

struct chunk {
    char id[HEARTH_ID_MAX + 1];
    bool ended;
    char *data; /* NULL: it has no result */
    size_t len;
};

struct split {
    struct ctl *c;
    struct chunk *chunks;
    size_t n, printed;
    uint64_t failed;
    int status; /* of the failures; -1: of different kinds */
};

static int submit(struct ctl *c, const struct ctl_map_split *m, const char *payload, size_t len,
                  const struct hearth_reply **ret) {
    const struct hearth_task *t = m->task;
    size_t most = FIXED_WORDS + 2 * t->n_args + t->n_options, n = 0;
    _cleanup_free_ const char **words = calloc(most, sizeof(*words));
    _cleanup_free_ size_t *lens = calloc(most, sizeof(*lens));
    char limit[24];
    if (!words || !lens) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    words[n++] = "TASK.MAP";
    words[n++] = t->pool;
    words[n++] = t->handler;
    words[n++] = payload;
    if (m->chunk) {
        words[n++] = "CHUNK";
        words[n++] = m->chunk;
    }
    if (m->null) {
        words[n++] = "DELIMITER";
        words[n++] = "";
    }
    for (size_t i = 0; i < t->n_args; i++) {
        words[n++] = "ARG";
        words[n++] = t->args[i];
    }
    if (t->timeout_ms) {
        snprintf(limit, sizeof(limit), "%llu", (unsigned long long)t->timeout_ms);
        words[n++] = "TIMEOUT";
        words[n++] = limit;
    }
    for (size_t i = 0; i < t->n_options; i++) {
        words[n++] = t->options[i];
    }
    words[n++] = "OWNED";
    for (size_t i = 0; i < n; i++) {
        lens[i] = strlen(words[i]);
    }
    lens[3] = len;
    if (m->null) {
        lens[m->chunk ? 7 : 5] = 1; /* the NUL */
    }
    return ctl_ask(c, n, words, lens, ret);
}

static void failed(struct split *s, size_t i, const struct hearth_result *r) {
    int status = ctl_exit_of(r);
    s->status = s->failed++ == 0 || s->status == status ? status : -1;
    ctl_say(s->c, 0, "chunk %zu: %s: %s", i + 1, hearth_status_name(r->status), r->cause);
}

/* CTL_OK or the status to give up with. */
static int keep(struct split *s, size_t i, const struct hearth_result *r) {
    struct chunk *chunk = &s->chunks[i];
    chunk->ended = true;
    if (r->status != HEARTH_DONE) {
        failed(s, i, r);
    }
    if (s->c->json) {
        json_result(r, true);
        printf(",\"index\":%zu}\n", i);
    } else if (r->status == HEARTH_DONE) {
        chunk->data = malloc(r->len + 1);
        if (!chunk->data) {
            return ctl_say(s->c, CTL_LOCAL, "out of memory");
        }
        memcpy(chunk->data, r->data, r->len);
        chunk->len = r->len;
    }
    return CTL_OK;
}

static int print(struct split *s) {
    for (; s->printed < s->n && s->chunks[s->printed].ended; s->printed++) {
        struct chunk *chunk = &s->chunks[s->printed];
        if (chunk->data) {
            fwrite(chunk->data, 1, chunk->len, stdout);
        }
        free(chunk->data);
        chunk->data = NULL;
    }
    return fflush(stdout) == 0 ? CTL_OK : ctl_say(s->c, CTL_LOCAL, "cannot write the results");
}

/* Waits for one more. */
static int collect(struct split *s) {
    const char *ids[WINDOW];
    size_t n = 0;
    for (size_t i = s->printed; i < s->n && n < WINDOW; i++) {
        if (!s->chunks[i].ended) {
            ids[n++] = s->chunks[i].id;
        }
    }
    struct hearth_result r;
    int e = hearth_wait(s->c->h, ids, n, -1, &r);
    if (e != 0) {
        return ctl_failed(s->c, e);
    }
    for (size_t i = s->printed; i < s->n; i++) {
        if (strcmp(s->chunks[i].id, r.id) == 0) {
            int status = keep(s, i, &r);
            return status == CTL_OK ? print(s) : status;
        }
    }
    return ctl_say(s->c, CTL_CONNECT, "an answer that was not asked for");
}

static int run(struct split *s, const struct hearth_reply *ids) {
    s->n = hearth_reply_count(ids);
    s->chunks = calloc(s->n + 1, sizeof(*s->chunks));
    if (!s->chunks) {
        return ctl_say(s->c, CTL_LOCAL, "out of memory");
    }
    const struct hearth_reply *id = hearth_reply_first(ids);
    for (size_t i = 0; i < s->n; i++, id = hearth_reply_next(id)) {
        snprintf(s->chunks[i].id, sizeof(s->chunks[i].id), "%s", hearth_reply_text(id, NULL));
    }
    int status = CTL_OK;
    while (status == CTL_OK && s->printed < s->n) {
        status = collect(s);
    }
    if (status == CTL_OK && s->failed) {
        status = s->status < 0 ? CTL_FAILED : s->status;
    }
    for (size_t i = 0; i < s->n; i++) {
        free(s->chunks[i].data);
    }
    free(s->chunks);
    return status;
}

int ctl_map_split(struct ctl *c, const struct ctl_map_split *m) {
    _cleanup_free_ char *payload = NULL;
    const struct hearth_reply *ids = NULL;
    size_t len;
    if (!ctl_read_file(c, m->file, &payload, &len)) {
        return CTL_LOCAL;
    }
    int status = submit(c, m, payload, len, &ids);
    struct split s = {.c = c};
    return status == CTL_OK ? run(&s, ids) : status;
}
