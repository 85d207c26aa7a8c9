/* SPDX-License-Identifier: MIT */
/* Schedules: tasks that are submitted by the clock, again and again. They are in the daemon's memory, and kept in the segment for a
 * daemon that takes over. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/policy.h"
#include "daemon/crontab.h"
#include "daemon/tasks.h"
#include "lib/base/list.h"

enum {
    TIMETABLE_MAX = 1024,           /* schedules */
    TIMETABLE_BYTES = 16 << 20,     /* of their payloads and arguments together */
    TIMETABLE_EVERY_MIN = 100,      /* ms */
    TIMETABLE_GRACE_MS = 60 * 1000, /* what comes later than this was missed */
};

enum misfire { MISFIRE_SKIP, MISFIRE_ONCE, MISFIRE_ALL, MISFIRES };
extern const char *const misfire_names[MISFIRES];

struct timetable_entry {
    struct list node;
    char *line;  /* of the configuration; NULL: a client has added it */
    bool listed; /* the line is there */
    char name[CRONTAB_NAME + 1];
    char *when; /* as it was given: the expression, or "every 500 ms" */
    struct cron cron;
    uint64_t every_ms; /* 0: cron counts */
    char *pool, *handler;
    struct task_spec spec; /* all but pool and handler; its bytes, ... */
    struct policy policy; /* ... and those of its keys, are the entry's; times count from base_ns */
    uint64_t base_ns;
    void *bytes;
    size_t n_bytes;
    enum misfire misfire;
    bool overlap, paused;
    int64_t next_ms;      /* of the wall clock; 0: never */
    int64_t last_ms;      /* 0: not yet run */
    struct task_ref last; /* id 0: none */
    struct {
        uint64_t runs, overlapped, missed, refused;
    } count;
    size_t kept_at, next_at; /* where its times are in what is kept, 0: not there; and will be */
    char error[96];          /* why it was refused last; "": never */
};

int timetable_open(struct hearthd *d); /* 0 or -ENOMEM */
/* Schedules are as the configuration now says; those of clients stay. */
void timetable_configure(struct hearthd *d);
void timetable_close(struct hearthd *d);
/* Submits what has become due. */
void timetable_turn(struct hearthd *d);

/* ---- timetable_keep.c ---- */
/* Puts the timetable into the segment, if that outlives the daemon. 0, -ENOMEM, -EAGAIN, -EMSGSIZE. */
int timetable_keep(struct hearthd *d);
/* The same of an entry's times, when no more has changed. */
void timetable_keep_times(struct hearthd *d, const struct timetable_entry *e);
/* Adds what a former daemon has left. */
void timetable_restore(struct hearthd *d);

/* What one asks for. Everything is copied. */
struct timetable_words {
    struct task_bytes name;
    const struct cron *cron; /* NULL: every_ms counts */
    const char *when;
    uint64_t every_ms;
    const char *pool, *handler;
    struct task_spec spec;
    struct policy policy;
    enum misfire misfire;
    bool overlap;
};
/* In place of one of the same name, if there is one and `replace`. 0; -EEXIST; -EINVAL: no good name;
 * -ENOENT: the time never comes; -ENOSPC: there are too many, or too large ones; -ENOMEM. */
int timetable_add(struct hearthd *d, const struct timetable_words *w, bool replace);
struct timetable_entry *timetable_find(struct hearthd *d, const char *name, size_t len);
void timetable_delete(struct hearthd *d, struct timetable_entry *e);
void timetable_pause(struct hearthd *d, struct timetable_entry *e, bool on);
/* Submits its task now, whatever the time; the next one comes when it would have. As
 * tasks_submit(), and -ENOENT: its pool or handler is not there (any more); -EDQUOT: its user is over a
 * limit. */
int timetable_run(struct hearthd *d, struct timetable_entry *e, struct task_ref *ret);
/* In order of their names; fn returns false to stop. */
uint32_t timetable_count(const struct hearthd *d);
void timetable_each(struct hearthd *d, bool (*fn)(void *arg, struct timetable_entry *e), void *arg);
/* The time of an entry that follows another. 0: there is none. */
int64_t timetable_after(const struct timetable_entry *e, int64_t ms);
