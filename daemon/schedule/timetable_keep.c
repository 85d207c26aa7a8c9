/* SPDX-License-Identifier: MIT */
/* The timetable in the segment, for a daemon that takes over: a version, then each schedule as words of 8 bytes and as bytes with their
 * length before them, filled up to whole words. It is written anew whenever a schedule comes, goes or is paused, as a whole (shm_keep()).
 * What changes each time a task is submitted is four words, which are changed in place.
 *
 * Times count on: what has come since then was missed, and the schedule's misfire policy says what becomes of it. Schedules of
 * the configuration are there with their line; the configuration decides whether they stay.
 *
 * Anybody who may write to the segment may have written anything: what makes no sense is dropped, with all that follows.
 *
 * Fails: what shm_keep() says; then what was kept before is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/timetable.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/shm/adopt.h"

enum { VERSION = 1, ARGS_MOST = 65535 };
enum {
    NEXT,
    LAST,
    LAST_ID,
    LAST_IDX,
    IN_PLACE,
    FLAGS = IN_PLACE,
    EVERY,
    BASE,
    UID,
    TIMEOUT,
    PRIORITY,
    NARGS,
    WORDS
};
enum { FLAG_OVERLAP = 1 << 8, FLAG_PAUSED = 1 << 9 };
enum { NAME, WHEN, POOL, HANDLER, LINE, PAYLOAD, POLICY, TEXTS };

/* ---- writing ---- */

struct writer {
    struct buf out;
    int r;
};

static void put_word(struct writer *w, uint64_t v) {
    w->r = w->r < 0 ? w->r : buf_append(&w->out, &v, sizeof(v));
}

static void put_bytes(struct writer *w, const void *data, size_t len) {
    static const char zeroes[8];
    put_word(w, len);
    w->r = w->r < 0 || len == 0 ? w->r : buf_append(&w->out, data, len);
    w->r = w->r < 0 ? w->r : buf_append(&w->out, zeroes, -len % 8);
}

static void put_text(struct writer *w, const char *text) {
    put_bytes(w, text, strlen(text));
}

static bool put_entry(void *arg, struct timetable_entry *e) {
    struct writer *w = arg;
    uint8_t block[POLICY_BLOCK_MAX];
    uint64_t flags =
        (uint64_t)e->misfire | (e->overlap ? FLAG_OVERLAP : 0) | (e->paused ? FLAG_PAUSED : 0);
    const uint64_t words[WORDS] = {[NEXT] = (uint64_t)e->next_ms,
                                   [LAST] = (uint64_t)e->last_ms,
                                   [LAST_ID] = e->last.id,
                                   [LAST_IDX] = e->last.idx,
                                   [FLAGS] = flags,
                                   [EVERY] = e->every_ms,
                                   [BASE] = e->base_ns,
                                   [UID] = e->spec.uid,
                                   [TIMEOUT] = e->spec.timeout_ms,
                                   [PRIORITY] = e->spec.priority,
                                   [NARGS] = e->spec.nargs};
    e->next_at = buf_len(&w->out);
    for (int i = 0; i < WORDS; i++) {
        put_word(w, words[i]);
    }
    put_text(w, e->name);
    put_text(w, e->when);
    put_text(w, e->pool);
    put_text(w, e->handler);
    put_text(w, e->line ? e->line : "");
    put_bytes(w, e->spec.payload.data, e->spec.payload.len);
    put_bytes(w, block, policy_put(&e->policy, block));
    for (uint32_t i = 0; i < e->spec.nargs; i++) {
        put_bytes(w, e->spec.args[i].data, e->spec.args[i].len);
    }
    return w->r == 0;
}

static bool is_kept(void *arg, struct timetable_entry *e) {
    (void)arg;
    e->kept_at = e->next_at;
    return true;
}

int timetable_keep(struct hearthd *d) {
    struct writer w = {.r = 0};
    if (!d->kept || (timetable_count(d) == 0 && shm_kept(&d->shm).len == 0)) {
        return 0;
    }
    put_word(&w, VERSION);
    timetable_each(d, put_entry, &w);
    int r = w.r < 0 ? w.r : shm_keep(&d->shm, buf_head(&w.out), buf_len(&w.out));
    buf_deinit(&w.out);
    if (r == 0) {
        timetable_each(d, is_kept, NULL);
    }
    return r;
}

void timetable_keep_times(struct hearthd *d, const struct timetable_entry *e) {
    if (e->kept_at) {
        size_t at = e->kept_at;
        shm_kept_set(&d->shm, at + LAST_IDX * 8, e->last.idx);
        shm_kept_set(&d->shm, at + LAST_ID * 8, e->last.id);
        shm_kept_set(&d->shm, at + LAST * 8, (uint64_t)e->last_ms);
        shm_kept_set(&d->shm, at + NEXT * 8, (uint64_t)e->next_ms);
    }
}

/* ---- reading ---- */

struct reader {
    const uint8_t *at, *end;
};

static bool get_word(struct reader *r, uint64_t *ret) {
    if ((size_t)(r->end - r->at) < sizeof(*ret)) {
        return false;
    }
    memcpy(ret, r->at, sizeof(*ret));
    r->at += sizeof(*ret);
    return true;
}

static bool get_bytes(struct reader *r, struct task_bytes *ret) {
    uint64_t len;
    if (!get_word(r, &len) || len > (size_t)(r->end - r->at)) {
        return false;
    }
    *ret = (struct task_bytes){r->at, len};
    size_t whole = (len + 7) / 8 * 8, left = (size_t)(r->end - r->at);
    r->at += whole < left ? whole : left;
    return true;
}

/* As text, with its NUL; the caller's to free(). */
static char *text_of(const struct task_bytes *b) {
    return strndup(b->data, b->len);
}

static int add(struct hearthd *d, const uint64_t words[WORDS], const struct task_bytes texts[TEXTS],
               const struct task_bytes *args) {
    static const struct pool_config none;
    _cleanup_free_ char *when = text_of(&texts[WHEN]), *pool = text_of(&texts[POOL]),
                        *handler = text_of(&texts[HANDLER]), *line = text_of(&texts[LINE]);
    struct cron cron;
    char error[CRON_ERROR];
    if (!when || !pool || !handler || !line) {
        return -ENOMEM;
    }
    if (words[EVERY] == 0 && cron_parse(when, strlen(when), &cron, error) < 0) {
        return -EINVAL;
    }
    struct timetable_words w = {.name = texts[NAME],
                                .cron = words[EVERY] ? NULL : &cron,
                                .when = when,
                                .every_ms = words[EVERY],
                                .pool = pool,
                                .handler = handler,
                                .misfire = (enum misfire)(words[FLAGS] & 0xff) % MISFIRES,
                                .overlap = words[FLAGS] & FLAG_OVERLAP};
    w.spec = (struct task_spec){.uid = (uint32_t)words[UID],
                                .timeout_ms = (uint32_t)words[TIMEOUT],
                                .priority = words[PRIORITY] & 0xff,
                                .payload = texts[PAYLOAD],
                                .args = args,
                                .nargs = (uint32_t)words[NARGS]};
    policy_get(&texts[POLICY], &none, &w.policy);
    int r = timetable_add(d, &w, true);
    if (r < 0) {
        return r;
    }
    struct timetable_entry *e = timetable_find(d, texts[NAME].data, texts[NAME].len);
    e->paused = words[FLAGS] & FLAG_PAUSED;
    e->next_ms = words[NEXT] && words[NEXT] < INT64_MAX ? (int64_t)words[NEXT] : e->next_ms;
    e->last_ms = (int64_t)words[LAST];
    e->last = (struct task_ref){.id = words[LAST_ID], .idx = (uint32_t)words[LAST_IDX]};
    e->base_ns = words[BASE];
    e->line = *line ? steal_ptr(line) : NULL;
    return 0;
}

/* The next one. 1: the end; -EBADMSG. */
static int read_entry(struct hearthd *d, struct reader *r) {
    uint64_t words[WORDS];
    struct task_bytes texts[TEXTS];
    if (r->at == r->end) {
        return 1;
    }
    for (int i = 0; i < WORDS; i++) {
        if (!get_word(r, &words[i])) {
            return -EBADMSG;
        }
    }
    for (int i = 0; i < TEXTS; i++) {
        if (!get_bytes(r, &texts[i])) {
            return -EBADMSG;
        }
    }
    if (words[NARGS] > ARGS_MOST) {
        return -EBADMSG;
    }
    _cleanup_free_ struct task_bytes *args = calloc(words[NARGS] + 1, sizeof(*args));
    if (!args) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < words[NARGS]; i++) {
        if (!get_bytes(r, &args[i])) {
            return -EBADMSG;
        }
    }
    int e = add(d, words, texts, args);
    return e == -ENOENT ? 0 : e; /* its time will never come again */
}

void timetable_restore(struct hearthd *d) {
    struct task_bytes b = shm_kept(&d->shm);
    struct reader reader = {b.data, (const uint8_t *)b.data + b.len};
    uint64_t version = 0;
    int r = b.len == 0 ? 1 : get_word(&reader, &version) && version == VERSION ? 0 : -EBADMSG;
    while (r == 0) {
        r = read_entry(d, &reader);
    }
    if (r < 0) {
        log_warn(LOG_ABOUT(.message = MESSAGE_SEGMENT),
                 "cannot take over all of the former daemon's schedules: %s", strerror(-r));
    }
}
