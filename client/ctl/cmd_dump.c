/* SPDX-License-Identifier: MIT */
/* dump: the shared dicts, lists and values, and the tasks that wait, as JSON Lines that another version of Hearth on another
 * machine can read:
 *
 *     {"hearth":1,"at":<ms since 1970>}
 *     {"value":NAME,"expire_at":<ms>,"items":[BYTES]}
 *     {"dict":NAME,"items":[FIELD,VALUE,...]}            with "more":1, if another line goes on with it
 *     {"list":NAME,"items":[ELEMENT,...]}
 *     {"task":ID,"at":<ms>,"state":...,"pool":...,"handler":...,"payload":BYTES,"args":[...],"options":[...]}
 *     {"group":NAME,"closed":1}
 *
 * Bytes are as json.c writes them. Each object is as it was at one moment: a small one is read by one command, a large one is
 * copied in the daemon first and the copy read in parts; the copy is under the prefix of a manager, and goes with this
 * connection. Objects of managers are left out, since they end with their owners; so are the other kinds of objects, and tasks that
 * run. Tasks come last and in order of submission, so that a load finds what they need.
 *
 * Fails: exit statuses. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/num.h"

enum { SMALL = 8 << 20, PART = 500, TRIES = 10, ID_MAX = HEARTH_ID_MAX + 1 };

struct dump {
    struct ctl *c;
    char prefix[HEARTH_PREFIX_MAX + 8]; /* of copies */
    uint64_t objects, others, tasks, running;
    char (*ids)[ID_MAX];
    size_t n_ids, cap_ids;
    char **groups; /* that tasks name, some of them more than once */
    size_t n_groups, cap_groups;
};

/* Bytes of ours: an answer ends the one before. */
struct name {
    char *data;
    size_t len;
};

/* A command on one name. */
static int ask(struct dump *d, const char *command, const struct name *name,
               const struct hearth_reply **ret) {
    const char *words[] = {command, name->data};
    const size_t lens[] = {strlen(command), name->len};
    return ctl_ask(d->c, 2, words, lens, ret);
}

static bool is_a_managers(const struct name *n) {
    return n->len >= 18 && n->data[0] == '@' && n->data[17] == ':' &&
           strspn(n->data + 1, "0123456789abcdef") == 16;
}

/* ---- an object ---- */

static void begin_line(const char *type, const struct name *name, int64_t expire_at, bool more) {
    printf("{\"%s\":", type);
    json_value(name->data, name->len);
    if (expire_at >= 0 && !more) {
        printf(",\"expire_at\":%lld", (long long)expire_at);
    }
    fputs(more ? ",\"more\":1,\"items\":" : ",\"items\":", stdout);
}

static void put_array(const struct hearth_reply *array) {
    const struct hearth_reply *e = hearth_reply_first(array);
    putchar('[');
    for (size_t
             n = hearth_reply_count(array) * (hearth_reply_type(array) == HEARTH_REPLY_MAP ? 2 : 1),
             i = 0;
         i < n; i++, e = hearth_reply_next(e)) {
        if (i) {
            putchar(',');
        }
        json_reply(e);
    }
    fputs("]}\n", stdout);
}

/* All at once. 1: it is another one meanwhile. */
static int put_small(struct dump *d, const char *type, const struct name *name, int64_t expire_at) {
    const struct hearth_reply *r;
    const char *words[] = {strcmp(type, "dict") == 0   ? "HGETALL"
                           : strcmp(type, "list") == 0 ? "LRANGE"
                                                       : "GET",
                           name->data, "0", "-1"};
    const size_t lens[] = {strlen(words[0]), name->len, 1, 2};
    int e = hearth_command(d->c->h, words[0][0] == 'L' ? 4 : 2, words, lens, &r);
    if (e != 0) {
        return ctl_failed(d->c, e);
    }
    if (hearth_reply_type(r) == HEARTH_REPLY_ERROR || hearth_reply_type(r) == HEARTH_REPLY_NULL ||
        (words[0][0] != 'G' && hearth_reply_count(r) == 0)) {
        return -1; /* gone, or of another type */
    }
    begin_line(type, name, expire_at, false);
    if (words[0][0] == 'G') {
        putchar('[');
        json_reply(r);
        fputs("]}\n", stdout);
    } else {
        put_array(r);
    }
    return CTL_OK;
}

static int put_dict_parts(struct dump *d, const struct name *name, const struct name *copy,
                          int64_t expire_at) {
    char cursor[32] = "0";
    do {
        const char *words[] = {"HSCAN", copy->data, cursor, "COUNT", "500"};
        const struct hearth_reply *r;
        int status = ctl_ask(d->c, 5, words, NULL, &r);
        if (status != CTL_OK) {
            return status;
        }
        const struct hearth_reply *at = hearth_reply_first(r);
        snprintf(cursor, sizeof(cursor), "%s", hearth_reply_text(at, NULL));
        begin_line("dict", name, expire_at, strcmp(cursor, "0") != 0);
        put_array(hearth_reply_next(at));
    } while (strcmp(cursor, "0") != 0);
    return CTL_OK;
}

static int put_list_parts(struct dump *d, const struct name *name, const struct name *copy,
                          int64_t expire_at) {
    const struct hearth_reply *r;
    int status = ask(d, "LLEN", copy, &r);
    uint64_t n = status == CTL_OK ? (uint64_t)hearth_reply_int(r) : 0;
    for (uint64_t from = 0; from < n && status == CTL_OK; from += PART) {
        char first[24], last[24];
        first[num_put_u64(first, from)] = 0;
        last[num_put_u64(last, from + PART - 1)] = 0;
        const char *words[] = {"LRANGE", copy->data, first, last};
        status = ctl_ask(d->c, 4, words, NULL, &r);
        if (status == CTL_OK) {
            begin_line("list", name, expire_at, from + PART < n);
            put_array(r);
        }
    }
    return status;
}

static int put_large(struct dump *d, const char *type, const struct name *name, int64_t expire_at) {
    const struct name copy = {d->prefix, strlen(d->prefix)};
    const char *words[] = {"COPY", name->data, copy.data, "REPLACE"};
    const size_t lens[] = {4, name->len, copy.len, 7};
    const struct hearth_reply *r;
    int status = ctl_ask(d->c, 4, words, lens, &r);
    if (status != CTL_OK || hearth_reply_int(r) == 0) {
        return status != CTL_OK ? status : -1;
    }
    status = ask(d, "TYPE", &copy, &r);
    const char *wanted = strcmp(type, "dict") == 0 ? "hash" : "list";
    if (status == CTL_OK && strcmp(hearth_reply_text(r, NULL), wanted) != 0) {
        return -1;
    }
    status = status != CTL_OK   ? status
             : wanted[0] == 'h' ? put_dict_parts(d, name, &copy, expire_at)
                                : put_list_parts(d, name, &copy, expire_at);
    return status != CTL_OK ? status : ask(d, "DEL", &copy, &r);
}

/* When it expires, in ms since 1970; -1: never; -2: it is not there. */
static int expiry(struct dump *d, const struct name *name, int64_t *ret) {
    const struct hearth_reply *r;
    int status = ask(d, "PEXPIRETIME", name, &r);
    *ret = status == CTL_OK ? hearth_reply_int(r) : -2;
    return status;
}

/* The bytes it holds; 0: it is not there. */
static int bytes_of(struct dump *d, const struct name *name, int64_t *ret) {
    const struct hearth_reply *r;
    const char *words[] = {"MEMORY", "USAGE", name->data};
    const size_t lens[] = {6, 5, name->len};
    int status = ctl_ask(d->c, 3, words, lens, &r);
    *ret = status == CTL_OK ? hearth_reply_int(r) : 0;
    return status;
}

static int dump_object(struct dump *d, const struct name *name) {
    static const char *const types[][2] = {{"hash", "dict"}, {"list", "list"}, {"string", "value"}};
    int status = CTL_OK;
    for (int i = 0; i < TRIES && status == CTL_OK; i++) {
        const struct hearth_reply *r;
        const char *type = NULL;
        int64_t expire_at, bytes = 0;
        status = ask(d, "TYPE", name, &r);
        const char *is = status == CTL_OK ? hearth_reply_text(r, NULL) : "none";
        for (size_t k = 0; k < ARRAY_SIZE(types); k++) {
            type = strcmp(is, types[k][0]) == 0 ? types[k][1] : type;
        }
        if (!type) {
            d->others += strcmp(is, "none") != 0;
            return status;
        }
        status = expiry(d, name, &expire_at);
        status = status == CTL_OK ? bytes_of(d, name, &bytes) : status;
        if (status != CTL_OK) {
            return status;
        }
        bool large = bytes > SMALL && strcmp(type, "value") != 0;
        status = large ? put_large(d, type, name, expire_at) : put_small(d, type, name, expire_at);
        if (status != -1) {
            d->objects += status == CTL_OK;
            return status;
        }
        status = CTL_OK; /* gone, or another one meanwhile: look again */
    }
    return status;
}

/* Names are copied: they lie in an answer. */
static int dump_names(struct dump *d, const struct hearth_reply *names) {
    size_t n = hearth_reply_count(names), got = 0;
    _cleanup_free_ struct name *all = calloc(n + 1, sizeof(*all));
    const struct hearth_reply *e = hearth_reply_first(names);
    for (; all && got < n; got++, e = hearth_reply_next(e)) {
        const char *text = hearth_reply_text(e, &all[got].len);
        all[got].data = malloc(all[got].len + 1);
        if (!all[got].data) {
            break;
        }
        memcpy(all[got].data, text, all[got].len + 1);
    }
    int status = got == n && all ? CTL_OK : ctl_say(d->c, CTL_LOCAL, "out of memory");
    for (size_t i = 0; i < got; i++) {
        if (status == CTL_OK && !is_a_managers(&all[i])) {
            status = dump_object(d, &all[i]);
        }
        free(all[i].data);
    }
    return status;
}

static int dump_objects(struct dump *d) {
    char cursor[32] = "0";
    const struct hearth_reply *r;
    const char *open[] = {"MANAGER.OPEN"};
    int status = ctl_ask(d->c, 1, open, NULL, &r);
    if (status == CTL_OK) {
        snprintf(d->prefix, sizeof(d->prefix), "%scopy", hearth_reply_text(r, NULL));
    }
    while (status == CTL_OK) {
        const char *words[] = {"SCAN", cursor, "COUNT", "1000"};
        status = ctl_ask(d->c, 4, words, NULL, &r);
        if (status == CTL_OK) {
            const struct hearth_reply *at = hearth_reply_first(r);
            snprintf(cursor, sizeof(cursor), "%s", hearth_reply_text(at, NULL));
            status = dump_names(d, hearth_reply_next(at));
        }
        if (strcmp(cursor, "0") == 0) {
            break;
        }
    }
    return status;
}

/* ---- tasks ---- */

/* Ids count up: the hexadecimal number before the '-'. */
static int by_age(const void *a, const void *b) {
    size_t x = strcspn(a, "-"), y = strcspn(b, "-");
    return x != y ? (x > y) - (x < y) : strncmp(a, b, x);
}

static int note_ids(struct dump *d, const struct hearth_reply *ids) {
    size_t n = hearth_reply_count(ids);
    if (d->n_ids + n > d->cap_ids) {
        size_t cap = d->cap_ids * 2 > d->n_ids + n ? d->cap_ids * 2 : d->n_ids + n;
        char(*more)[ID_MAX] = realloc(d->ids, cap * sizeof(*more));
        if (!more) {
            return ctl_say(d->c, CTL_LOCAL, "out of memory");
        }
        d->ids = more;
        d->cap_ids = cap;
    }
    const struct hearth_reply *e = hearth_reply_first(ids);
    for (size_t i = 0; i < n; i++, e = hearth_reply_next(e)) {
        snprintf(d->ids[d->n_ids++], ID_MAX, "%s", hearth_reply_text(e, NULL));
    }
    return CTL_OK;
}

/* Its group is to be looked at when all have been told. */
static int note_group(struct dump *d, const char *name) {
    if (d->n_groups && strcmp(d->groups[d->n_groups - 1], name) == 0) {
        return CTL_OK;
    }
    if (d->n_groups == d->cap_groups) {
        size_t cap = d->cap_groups ? d->cap_groups * 2 : 64;
        char **more = realloc(d->groups, cap * sizeof(*more));
        if (!more) {
            return ctl_say(d->c, CTL_LOCAL, "out of memory");
        }
        d->groups = more;
        d->cap_groups = cap;
    }
    char *copy = strdup(name);
    if (!copy) {
        return ctl_say(d->c, CTL_LOCAL, "out of memory");
    }
    d->groups[d->n_groups++] = copy;
    return CTL_OK;
}

static int note_groups(struct dump *d, const struct hearth_reply *options) {
    const struct hearth_reply *e = hearth_reply_first(options);
    int status = CTL_OK;
    for (size_t n = hearth_reply_count(options); n > 1 && status == CTL_OK; n--) {
        const struct hearth_reply *next = hearth_reply_next(e);
        if (strcmp(hearth_reply_text(e, NULL), "GROUP") == 0) {
            status = note_group(d, hearth_reply_text(next, NULL));
        }
        e = next;
    }
    return status;
}

static int dump_task(struct dump *d, const char *id) {
    static const char *const keys[] = {"state", "pool", "handler", "payload", "args", "options"};
    const struct hearth_reply *r;
    const char *words[] = {"TASK.DUMP", id};
    int e = hearth_command(d->c->h, 2, words, NULL, &r);
    if (e != 0) {
        return ctl_failed(d->c, e);
    }
    if (hearth_reply_type(r) != HEARTH_REPLY_MAP) { /* it has ended, or is not ours to see */
        bool denied = strncmp(hearth_reply_text(r, NULL), "NOPERM", 6) == 0;
        return denied ? ctl_refused(d->c, NULL, r) : CTL_OK;
    }
    const char *state = hearth_reply_text(hearth_reply_get(r, "state"), NULL);
    if (strcmp(state, "queued") != 0 && strcmp(state, "waiting") != 0) {
        d->running++;
        return CTL_OK;
    }
    printf("{\"task\":\"%s\",\"at\":%llu", id, (unsigned long long)clock_wall_ms());
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        printf(",\"%s\":", keys[i]);
        json_reply(hearth_reply_get(r, keys[i]));
    }
    fputs("}\n", stdout);
    d->tasks++;
    return note_groups(d, hearth_reply_get(r, "options"));
}

static int dump_tasks(struct dump *d) {
    char cursor[32] = "0";
    int status = CTL_OK;
    do {
        const char *words[] = {"TASK.SCAN", cursor};
        const struct hearth_reply *r;
        status = ctl_ask(d->c, 2, words, NULL, &r);
        if (status == CTL_OK) {
            const struct hearth_reply *at = hearth_reply_first(r);
            snprintf(cursor, sizeof(cursor), "%s", hearth_reply_text(at, NULL));
            status = note_ids(d, hearth_reply_next(at));
        }
    } while (status == CTL_OK && strcmp(cursor, "0") != 0);
    if (d->n_ids > 1) {
        qsort(d->ids, d->n_ids, sizeof(*d->ids), by_age);
    }
    for (size_t i = 0; i < d->n_ids && status == CTL_OK; i++) {
        status = dump_task(d, d->ids[i]);
    }
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int dump_groups(struct dump *d) {
    int status = CTL_OK;
    if (d->n_groups > 1) {
        qsort(d->groups, d->n_groups, sizeof(*d->groups), by_name);
    }
    for (size_t i = 0; i < d->n_groups && status == CTL_OK; i++) {
        const char *words[] = {"GROUP.INFO", d->groups[i]};
        const struct hearth_reply *r;
        if (i > 0 && strcmp(d->groups[i - 1], d->groups[i]) == 0) {
            continue;
        }
        int e = hearth_command(d->c->h, 2, words, NULL, &r);
        if (e != 0) {
            status = ctl_failed(d->c, e);
        } else if (hearth_reply_text(hearth_reply_get(r, "closed"), NULL)[0] == 'y') {
            fputs("{\"group\":", stdout);
            json_value(d->groups[i], strlen(d->groups[i]));
            fputs(",\"closed\":1}\n", stdout);
        }
    }
    return status;
}

static void summary(const struct dump *d) {
    ctl_say(d->c, 0, "%llu objects and %llu tasks", (unsigned long long)d->objects,
            (unsigned long long)d->tasks);
    if (d->others) {
        ctl_say(d->c, 0, "left out: %llu objects that are no dict, list or value",
                (unsigned long long)d->others);
    }
    if (d->running) {
        ctl_say(d->c, 0, "left out: %llu tasks that run", (unsigned long long)d->running);
    }
}

int cmd_dump(struct ctl *c) {
    struct dump d = {.c = c};
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *file = ctl_operand(c);
    if (file && ctl_option(c) == CTL_STOP) { /* those behind it */
        return c->status;
    }
    int status = c->argc ? ctl_usage(c, "one FILE only") : ctl_connect(c);
    if (status == CTL_OK && file && strcmp(file, "-") != 0 && !freopen(file, "w", stdout)) {
        return ctl_say(c, CTL_LOCAL, "cannot write %s: %s", file, strerror(errno));
    }
    if (status != CTL_OK) {
        return status;
    }
    printf("{\"hearth\":1,\"at\":%llu}\n", (unsigned long long)clock_wall_ms());
    status = dump_objects(&d);
    status = status == CTL_OK ? dump_tasks(&d) : status;
    status = status == CTL_OK ? dump_groups(&d) : status;
    free(d.ids);
    for (size_t i = 0; i < d.n_groups; i++) {
        free(d.groups[i]);
    }
    free(d.groups);
    if (status == CTL_OK) {
        summary(&d);
    }
    return status;
}
