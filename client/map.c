/* SPDX-License-Identifier: MIT */
/* One function over many payloads. At most `window` of them are in the daemon at a time, so neither
 * side's memory grows with the length of the input. An item is in one of these places:
 *
 *     free --next()--> flying --ended--> (ordered, not its turn) kept --> done(), free
 *                        |  ^
 *           BUSY or OOM  v  | room: one of ours has ended; or, with none flying, time has passed
 *                       waiting
 *
 * While items wait no new ones are taken. A refusal with nothing of ours in the daemon means that
 * others fill it, or that the payload can never fit: the two cannot be told apart, so all that wait
 * are tried again with growing pauses, for busy_ms at most. In ordered mode item i lives in slot i
 * % window, which is free once i - window has been delivered; so results kept are bounded by the
 * window as well.
 *
 * Fails: as hearth_map() says. After it returns no callback points here any more. */
#include "client/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

enum { PAUSE_MAX_MS = 64, STOP_MS = 1000 };

struct item {
    struct run *run;
    struct item *next; /* free or waiting */
    size_t index;
    struct hearth_bytes payload;
    uint64_t ticket; /* flying: not 0 */
    bool kept;       /* its result is in the fields below */
    struct hearth_result result;
    char *text; /* owns id, data and cause of result */
};

struct run {
    struct hearth *h;
    const struct hearth_map *map;
    struct hearth_task task;
    size_t window, window_bytes;
    struct item *items, *free;
    struct item *waiting, **waiting_tail;
    size_t flying, flying_bytes;
    size_t room;  /* ends since the last refusal: how many that wait may be tried */
    size_t index; /* the next to take */
    size_t turn;  /* ordered: the next to deliver */
    bool ended;   /* no more payloads */
    bool starved; /* none just now */
    uint64_t stuck, pause,
        again; /* first refusal with nothing flying; pause in ms; when to try again */
    uint64_t next_tick;
    int result; /* not 0: stop */
};

static void wait_for_room(struct run *run, struct item *it) {
    it->next = NULL;
    *run->waiting_tail = it;
    run->waiting_tail = &it->next;
}

static struct item *pop_waiting(struct run *run) {
    struct item *it = run->waiting;
    run->waiting = it->next;
    if (!run->waiting) {
        run->waiting_tail = &run->waiting;
    }
    return it;
}

static void give(struct run *run, const struct hearth_result *r) {
    if (run->result == 0) {
        run->result = run->map->done(run->map->arg, r);
    }
}

static void release(struct run *run, struct item *it) {
    free(it->text);
    it->text = NULL;
    it->kept = false;
    it->next = run->free;
    run->free = it;
}

static void keep(struct run *run, struct item *it, const struct hearth_result *r) {
    size_t id = strlen(r->id) + 1, cause = strlen(r->cause) + 1;
    it->text = malloc(id + cause + r->len + 1);
    if (!it->text) {
        run->result = run->result ? run->result : -ENOMEM;
        return;
    }
    it->result = *r;
    it->result.id = memcpy(it->text, r->id, id);
    it->result.cause = memcpy(it->text + id, r->cause, cause);
    it->result.data = memcpy(it->text + id + cause, r->data, r->len + 1);
    it->kept = true;
}

static void deliver(struct run *run, struct item *it, const struct hearth_result *r) {
    if (!run->map->ordered) {
        give(run, r);
        release(run, it);
        return;
    }
    if (it->index != run->turn) {
        keep(run, it, r);
        return;
    }
    give(run, r);
    free(it->text);
    it->text = NULL;
    run->turn++;
    for (;;) {
        struct item *next = &run->items[run->turn % run->window];
        if (!next->kept || next->index != run->turn) {
            break;
        }
        give(run, &next->result);
        free(next->text);
        next->text = NULL;
        next->kept = false;
        run->turn++;
    }
}

static void on_end(struct hearth *h, const struct hearth_result *r, void *arg) {
    struct item *it = arg;
    struct run *run = it->run;
    (void)h;
    it->ticket = 0;
    run->flying--;
    run->flying_bytes -= it->payload.len;
    if (r->status == HEARTH_REFUSED && (r->error == HEARTH_E_BUSY || r->error == HEARTH_E_OOM)) {
        run->room = 0;
        wait_for_room(run, it);
        return;
    }
    run->room++;
    run->stuck = 0;
    struct hearth_result mine = *r;
    mine.index = it->index;
    mine.ticket = 0;
    deliver(run, it, &mine);
}

static void fly(struct run *run, struct item *it) {
    run->task = run->map->task;
    run->task.payload = it->payload.data;
    run->task.payload_len = it->payload.len;
    if (run->map->vary) {
        run->map->vary(run->map->arg, it->index, &run->task);
    }
    int r = hearth_submit(run->h, &run->task, on_end, it, &it->ticket);
    if (r == HEARTH_E_DISCONNECTED) {
        it->ticket = 0;
        wait_for_room(run, it); /* finish() tells */
    } else if (r != 0) {
        run->result = r;
    } else {
        run->flying++;
        run->flying_bytes += it->payload.len;
    }
}

/* All that wait end with the refusal or the loss that the handle's message tells of. */
static void give_up(struct run *run, enum hearth_status status, int error) {
    char words[sizeof(run->h->message)];
    memcpy(words, run->h->message, sizeof(words));
    while (run->waiting) {
        struct item *it = pop_waiting(run);
        struct hearth_result r;
        result_init(&r);
        r.index = it->index;
        r.status = status;
        r.error = error;
        r.cause = words;
        deliver(run, it, &r);
    }
}

static void retry(struct run *run) {
    if (run->flying == 0) {
        uint64_t now = clock_now();
        uint64_t limit = (uint64_t)(run->map->busy_ms > 0 ? run->map->busy_ms : 30000) * NS_PER_MS;
        if (run->stuck == 0) {
            run->stuck = now;
            run->pause = 1;
            run->again = now + NS_PER_MS;
        } else if (now - run->stuck > limit) {
            run->stuck = 0;
            give_up(run, HEARTH_REFUSED, HEARTH_E_BUSY);
            return;
        }
        if (now < run->again) {
            return;
        }
        run->pause = run->pause * 2 < PAUSE_MAX_MS ? run->pause * 2 : PAUSE_MAX_MS;
        run->again = now + run->pause * NS_PER_MS;
        run->room = run->window;
    }
    for (; run->waiting && run->room > 0 && run->result == 0; run->room--) {
        fly(run, pop_waiting(run));
    }
}

static struct item *take_slot(struct run *run) {
    if (run->map->ordered) {
        return run->index - run->turn < run->window ? &run->items[run->index % run->window] : NULL;
    }
    struct item *it = run->free;
    return it;
}

/* Puts into the daemon what there is room for. */
static void pump(struct run *run) {
    if (run->waiting) {
        retry(run);
    }
    const struct hearth_map *map = run->map;
    while (!run->waiting && !run->ended && run->result == 0 &&
           (run->flying == 0 || run->flying_bytes <= run->window_bytes)) {
        struct item *it = take_slot(run);
        if (!it) {
            return;
        }
        struct hearth_bytes payload = {0};
        int r = 1;
        if (map->next) {
            r = map->next(map->arg, run->index, &payload);
        } else if (run->index < map->n) {
            payload = map->payloads[run->index];
        } else {
            r = 0;
        }
        if (r == -EAGAIN) {
            run->starved = true;
            return;
        }
        if (r <= 0) {
            run->ended = true;
            run->result = r;
            return;
        }
        if (!map->ordered) {
            run->free = it->next;
        }
        it->index = run->index++;
        it->payload = payload;
        fly(run, it);
    }
}

static void tick(struct run *run, bool force) {
    if (!run->map->tick) {
        return;
    }
    uint64_t now = clock_now();
    if ((force || now >= run->next_tick) && run->result == 0) {
        uint64_t ms = run->map->tick_ms > 0 ? (uint64_t)run->map->tick_ms : 200;
        run->next_tick = now + ms * NS_PER_MS;
        run->result = run->map->tick(run->map->arg);
    }
}

static bool is_over(const struct run *run) {
    return run->result != 0 || (run->ended && run->flying == 0 && !run->waiting);
}

/* Waits for news and lets it be delivered. 0, or lost. */
static int turn(struct run *run) {
    struct hearth *h = run->h;
    uint64_t deadline = run->map->tick ? run->next_tick : UINT64_MAX;
    if (run->waiting && run->flying == 0 && run->again < deadline) {
        deadline = run->again;
    }
    h->also_fd = run->starved ? run->map->input_fd : -1;
    int r = h->lost ? resume_wait(h, deadline) : conn_wait(h, deadline);
    h->also_fd = -1;
    if (r == 0) {
        r = dispatch_turn(h);
    }
    if (r == HEARTH_E_DISCONNECTED && resume_may(h)) {
        return 0; /* the next turn connects again */
    }
    if (r == -EINTR) {
        tick(run, true);
        return 0;
    }
    return r == HEARTH_E_PENDING ? 0 : r;
}

/* 0 when everything has been delivered, or when asked to stop; or lost. */
static int loop(struct run *run) {
    for (;;) {
        run->starved = false;
        pump(run);
        tick(run, false);
        if (is_over(run)) {
            return 0;
        }
        int r = turn(run);
        if (r != 0) {
            return r;
        }
    }
}

/* Cancels what flies and lets go of it. */
static void let_go(struct run *run) {
    struct hearth *h = run->h;
    for (size_t i = 0; i < run->window; i++) {
        struct task *t =
            run->items[i].ticket ? table_by_ticket(&h->table, run->items[i].ticket) : NULL;
        if (t) {
            t->fn = NULL;
            (void)hearth_cancel(h, run->items[i].ticket);
        }
    }
}

/* The same, and waits a moment so that the daemon hears of it. */
static int stop(struct run *run) {
    struct hearth *h = run->h;
    let_go(run);
    uint64_t deadline = clock_now() + STOP_MS * NS_PER_MS;
    int r = 0;
    while (r == 0 && (h->table.unnamed > 0 || buf_len(&h->out) > 0)) {
        r = conn_wait(h, deadline);
        r = r == -EINTR ? 0 : r == 0 ? dispatch_turn(h) : r;
    }
    return r == HEARTH_E_PENDING ? 0 : r;
}

static int start(struct run *run) {
    const struct hearth_map *map = run->map;
    run->task = map->task;
    run->window = map->window ? map->window : 256;
    run->window_bytes = map->window_bytes ? map->window_bytes : (size_t)64 << 20;
    run->waiting_tail = &run->waiting;
    run->items = calloc(run->window, sizeof(*run->items));
    if (!run->items) {
        return -ENOMEM;
    }
    for (size_t i = run->window; i-- > 0;) {
        run->items[i].run = run;
        run->items[i].next = run->free;
        run->free = &run->items[i];
    }
    return 0;
}

static void free_items(struct run *run) {
    for (size_t i = 0; run->items && i < run->window; i++) {
        free(run->items[i].text);
    }
    free(run->items);
}

int hearth_map(struct hearth *h, const struct hearth_map *map) {
    int r = dispatch_enter(h);
    if (r != 0) {
        return r;
    }
    struct run run = {.h = h, .map = map};
    r = map->done ? start(&run) : -EINVAL;
    if (r == 0) {
        r = loop(&run);
    }
    if (r == 0 && run.result != 0) {
        r = stop(&run);
    }
    r = dispatch_leave(h, r);
    if (h->lost && run.items) {
        give_up(&run, HEARTH_DISCONNECTED, 0);
    }
    free_items(&run);
    return run.result != 0 ? run.result : r;
}

/* ---- as an iterator ---- */

/* A result that nobody has asked for yet. */
struct early {
    struct early *next;
    struct hearth_result result;
    char text[]; /* id NUL cause NUL data NUL */
};

struct hearth_imap {
    struct hearth_map user, map; /* as given; the same with our callbacks */
    struct run run;
    struct early *first, **tail, *given;
    size_t n;
};

static int imap_payload(void *arg, size_t index, struct hearth_bytes *ret) {
    const struct hearth_imap *it = arg;
    return it->user.next(it->user.arg, index, ret);
}

static void imap_vary(void *arg, size_t index, struct hearth_task *task) {
    const struct hearth_imap *it = arg;
    it->user.vary(it->user.arg, index, task);
}

static int imap_done(void *arg, const struct hearth_result *r) {
    struct hearth_imap *it = arg;
    size_t id = strlen(r->id) + 1, cause = strlen(r->cause) + 1;
    struct early *e = malloc(sizeof(*e) + id + cause + r->len + 1);
    if (!e) {
        return -ENOMEM;
    }
    *e = (struct early){.result = *r};
    e->result.id = memcpy(e->text, r->id, id);
    e->result.cause = memcpy(e->text + id, r->cause, cause);
    e->result.data = memcpy(e->text + id + cause, r->data, r->len + 1);
    *it->tail = e;
    it->tail = &e->next;
    it->n++;
    return 0;
}

int hearth_imap_open(struct hearth *h, const struct hearth_map *map, struct hearth_imap **ret) {
    struct hearth_imap *it = calloc(1, sizeof(*it));
    if (!it) {
        return -ENOMEM;
    }
    it->user = it->map = *map;
    it->map.arg = it;
    it->map.next = map->next ? imap_payload : NULL;
    it->map.vary = map->vary ? imap_vary : NULL;
    it->map.done = imap_done;
    it->map.tick = NULL;
    it->tail = &it->first;
    it->run = (struct run){.h = h, .map = &it->map};
    int r = start(&it->run);
    if (r != 0) {
        free(it);
        return r;
    }
    *ret = it;
    return 0;
}

/* Fills the daemon and waits until there is a result, or none will come. */
static int imap_wait(struct hearth_imap *it) {
    struct run *run = &it->run;
    for (;;) {
        run->starved = false;
        if (it->n < run->window) {
            pump(run);
        }
        if (it->first || is_over(run)) {
            return 0;
        }
        int r = turn(run);
        if (r != 0) {
            return r;
        }
    }
}

int hearth_imap_next(struct hearth_imap *it, struct hearth_result *ret) {
    struct run *run = &it->run;
    free(it->given);
    it->given = NULL;
    int r = dispatch_enter(run->h);
    if (r == 0) {
        r = dispatch_leave(run->h, imap_wait(it));
    }
    if (run->h->lost) {
        give_up(run, HEARTH_DISCONNECTED, 0);
    }
    if (!it->first) {
        return run->result != 0 ? run->result : r != 0 ? r : HEARTH_E_ABSENT;
    }
    it->given = it->first;
    it->first = it->given->next;
    it->tail = it->first ? it->tail : &it->first;
    it->n--;
    *ret = it->given->result;
    return 0;
}

void hearth_imap_close(struct hearth_imap *it) {
    if (!it) {
        return;
    }
    let_go(&it->run);
    (void)conn_flush(it->run.h);
    while (it->first) {
        struct early *e = it->first;
        it->first = e->next;
        free(e);
    }
    free(it->given);
    free_items(&it->run);
    free(it);
}
