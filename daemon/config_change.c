/* SPDX-License-Identifier: MIT */
/* Changing a configuration that is in force. There is one way a configuration comes to be: from text, through all the checks
 * of config.c. So a change is made to the text: the running one is printed, with other values in the places that are to
 * change, and read again. What comes out is as good as a file that was edited and checked, whatever checks there are.
 *
 * Two configurations are compared by what is printed of each key; a pool is known by its name. CONFIG REWRITE is a comparison
 * too: of what runs with what the files say, without the file that an earlier one wrote; the differences are that file. It is
 * written under another name, read with all the others, compared with what runs, and only then given its name.
 *
 * Fails: -EINVAL with *err filled, -ENOMEM, or -errno of writing. */
#include <errno.h>
#include <fcntl.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/config_value.h"
#include "lib/base/cleanup.h"

enum { KEY_MAX = CONFIG_POOL_NAME_MAX + 80 };

/* ---- walking ---- */

static bool has_value(const struct option *o, const void *base) {
    bool nested = o->type == TYPE_SECTION || o->type == TYPE_POOLS || o->type == TYPE_PROCESSES ||
                  o->type == TYPE_OVERRIDES;
    bool pool_name = o->type == TYPE_NAME;
    return !nested && !pool_name && (o->section != SECTION_POOL || config_pool_has(base, o));
}

typedef bool each_fn(void *arg, const struct config_at *at);

static bool each_in(const char *prefix, enum option_section section, const void *base, bool all,
                    each_fn *fn, void *arg) {
    char key[KEY_MAX];
    for (unsigned i = 0; i < config_n_options; i++) {
        const struct option *o = &config_options[i];
        bool settable =
            all && o->section == SECTION_POOL && o->type != TYPE_NAME && o->type != TYPE_SECTION;
        if (o->section != section || !(has_value(o, base) || settable)) {
            continue;
        }
        snprintf(key, sizeof(key), "%s%s", prefix, o->name);
        if (!fn(arg, &(struct config_at){.key = key, .option = o, .base = base})) {
            return false;
        }
    }
    return true;
}

static bool each_of_pool(const struct pool_config *p, bool all, each_fn *fn, void *arg) {
    char prefix[KEY_MAX];
    snprintf(prefix, sizeof(prefix), "pools.%s.", p->name);
    if (!each_in(prefix, SECTION_POOL, p, all, fn, arg)) {
        return false;
    }
    snprintf(prefix, sizeof(prefix), "pools.%s.rlimits.", p->name);
    return each_in(prefix, SECTION_RLIMITS, p, all, fn, arg);
}

/* all: also what this one has no value for, though another may. */
static void each(const struct config *c, bool all, each_fn *fn, void *arg) {
    bool go_on = each_in("", SECTION_TOP, c, all, fn, arg) &&
                 each_in("limits.", SECTION_LIMITS, &c->limits, all, fn, arg);
    for (uint32_t i = 0; go_on && i < c->n_pools; i++) {
        go_on = each_of_pool(&c->pools[i], all, fn, arg);
    }
}

void config_each(const struct config *c, each_fn *fn, void *arg) {
    char prefix[KEY_MAX];
    each(c, false, fn, arg);
    for (uint32_t i = 0; i < c->n_processes; i++) { /* which cannot be changed one by one */
        snprintf(prefix, sizeof(prefix), "processes.%s.", c->processes[i].name);
        if (!each_in(prefix, SECTION_PROCESS, &c->processes[i], false, fn, arg)) {
            return;
        }
    }
}

void config_show(const struct config_at *at, FILE *f) {
    config_value_show(at->option, at->base, f);
}

bool config_is_private(const struct config_at *at) {
    return at->option->type == TYPE_ENV;
}

/* ---- edits ---- */

struct search {
    const char *key;
    const struct option *found;
    char name[KEY_MAX];
};

static bool is_sought(void *arg, const struct config_at *at) {
    struct search *s = arg;
    if (strcasecmp(at->key, s->key) != 0) {
        return true;
    }
    s->found = at->option;
    snprintf(s->name, sizeof(s->name), "%s", at->key);
    return false;
}

int config_edit(struct config_edits *e, const struct config *c, const char *key,
                const char *value) {
    struct search s = {.key = key};
    each(c, true, is_sought, &s);
    if (!s.found) {
        return -ENOENT;
    }
    if (s.found->when == CONFIG_RESTART) {
        return -EPERM;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        if (strcmp(e->v[i].key, s.name) == 0) {
            return -EEXIST;
        }
    }
    _cleanup_free_ char *text = config_value_quote(s.found, value);
    return text ? config_edits_add(e, s.name, text) : -ENOMEM;
}

/* Where a pool was defined is not in the text. */
static int keep_places(const struct config *from, struct config *to) {
    size_t n = 0;
    while (from->files && from->files[n]) {
        n++;
    }
    char **files = calloc(n + 2, sizeof(*files));
    for (size_t i = 0; files && i < n; i++) {
        files[i] = strdup(from->files[i]);
    }
    if (!files) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < to->n_processes; i++) {
        to->processes[i].file = files[0] ? files[0] : to->processes[i].name;
    }
    for (uint32_t i = 0; i < to->n_pools; i++) {
        struct pool_config *p = &to->pools[i];
        const struct pool_config *same = i < from->n_pools ? &from->pools[i] : NULL;
        for (size_t k = 0; same && k < n; k++) {
            if (same->file == from->files[k] && files[k]) {
                p->file = files[k];
                p->line = same->line;
            }
        }
        if (!same || !p->line || p->file == NULL) {
            p->file = files[0] ? files[0] : p->name;
        }
    }
    for (size_t i = 0; to->files && to->files[i]; i++) {
        free(to->files[i]);
    }
    free(to->files);
    to->files = files;
    return 0;
}

/* "pools[1].workers" of a text that nobody has seen: by the pool's name. */
static void name_pool(const struct config *c, struct config_error *err) {
    unsigned i;
    int n = 0;
    char rest[sizeof(err->key)];
    if (sscanf(err->key, "pools[%u]%n", &i, &n) == 1 && n > 0 && i < c->n_pools) {
        snprintf(rest, sizeof(rest), "%s", err->key + n);
        snprintf(err->key, sizeof(err->key), "pools.%s%.80s", c->pools[i].name, rest);
    }
}

int config_with(const struct config *c, const struct config_edits *e, const char *by,
                struct config **ret, struct config_error *err) {
    _cleanup_free_ char *text = NULL;
    size_t len;
    struct config *made;
    FILE *f = open_memstream(&text, &len);
    *err = (struct config_error){0};
    if (f) {
        config_print_with(c, e, f);
    }
    if (!f || fclose(f) != 0) {
        return -ENOMEM;
    }
    int r = config_load_text(text, len, by, &made, err);
    if (r < 0) {
        err->line = 0;
        name_pool(c, err);
        return r;
    }
    if (made->n_pools != c->n_pools ||
        made->n_processes != c->n_processes) { /* a value with a bracket too many */
        snprintf(err->file, sizeof(err->file), "%s", by);
        snprintf(err->text, sizeof(err->text), "that is not one value");
        config_free(made);
        return -EINVAL;
    }
    r = keep_places(c, made);
    if (r < 0) {
        config_free(made);
        return r;
    }
    *ret = made;
    return 0;
}

/* ---- comparing ---- */

static char *printed(const struct option *o, const void *base) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (f && has_value(o, base)) {
        config_value_print(o, base, f);
    }
    if (!f || fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

struct comparison {
    const void *other; /* the same section of the other one */
    config_change_fn *fn;
    void *arg;
    int n; /* differences, or -ENOMEM */
    bool settle;
};

static bool compare_one(void *arg, const struct config_at *at) {
    struct comparison *c = arg;
    _cleanup_free_ char *from = printed(at->option, at->base);
    _cleanup_free_ char *to = printed(at->option, c->other);
    if (!from || !to) {
        c->n = -ENOMEM;
        return false;
    }
    if (strcmp(from, to) == 0) {
        return true;
    }
    c->n++;
    if (c->settle && at->option->when == CONFIG_RESTART &&
        config_value_copy(at->option, at->base, (void *)c->other) < 0) {
        c->n = -ENOMEM;
        return false;
    }
    if (c->fn) {
        c->fn(c->arg, &(struct config_change){.what = CONFIG_CHANGED,
                                              .when = at->option->when,
                                              .is_private = config_is_private(at),
                                              .key = at->key,
                                              .from = from,
                                              .to = to});
    }
    return true;
}

static const struct pool_config *same_pool(const struct config *c, const struct pool_config *p) {
    for (uint32_t i = 0; i < c->n_pools; i++) {
        if (strcmp(c->pools[i].name, p->name) == 0) {
            return &c->pools[i];
        }
    }
    return NULL;
}

static void tell_pool(struct comparison *c, const struct pool_config *p, bool added) {
    c->n++;
    if (c->fn) {
        c->fn(c->arg,
              &(struct config_change){.what = added ? CONFIG_POOL_ADDED : CONFIG_POOL_REMOVED,
                                      .key = p->name,
                                      .from = "",
                                      .to = ""});
    }
}

static const struct process_config *same_process(const struct config *c, const char *name) {
    for (uint32_t i = 0; i < c->n_processes; i++) {
        if (strcmp(c->processes[i].name, name) == 0) {
            return &c->processes[i];
        }
    }
    return NULL;
}

int config_process_differs(const struct process_config *a, const struct process_config *b) {
    const struct process_config *both[] = {a, b};
    char *text[2] = {NULL, NULL};
    size_t n;
    int r = 0;
    for (int i = 0; i < 2 && r == 0; i++) {
        FILE *f = open_memstream(&text[i], &n);
        if (f) {
            config_print_process(both[i], f);
        }
        r = f && fclose(f) == 0 ? 0 : -ENOMEM;
    }
    r = r == 0 ? strcmp(text[0], text[1]) != 0 : r;
    free(text[0]);
    free(text[1]);
    return r;
}

static void compare_processes(struct comparison *c, const struct config *from,
                              const struct config *to) {
    for (int way = 0; way < 2 && c->n >= 0; way++) {
        const struct config *one = way ? to : from, *other = way ? from : to;
        for (uint32_t i = 0; i < one->n_processes && c->n >= 0; i++) {
            const struct process_config *p = &one->processes[i];
            const struct process_config *same = same_process(other, p->name);
            int differs = !same ? 1 : way ? 0 : config_process_differs(p, same);
            if (differs < 0) {
                c->n = differs;
            } else if (differs) {
                c->n++;
            }
            if (differs > 0 && c->fn) {
                c->fn(c->arg, &(struct config_change){.what = same  ? CONFIG_PROCESS_CHANGED
                                                              : way ? CONFIG_PROCESS_ADDED
                                                                    : CONFIG_PROCESS_REMOVED,
                                                      .key = p->name,
                                                      .from = "",
                                                      .to = ""});
            }
        }
    }
}

static int compare(const struct config *from, const struct config *to, bool settle,
                   config_change_fn *fn, void *arg) {
    struct comparison c = {.other = to, .fn = fn, .arg = arg, .settle = settle};
    bool go_on = each_in("", SECTION_TOP, from, true, compare_one, &c);
    c.other = &to->limits;
    go_on = go_on && each_in("limits.", SECTION_LIMITS, &from->limits, true, compare_one, &c);
    for (uint32_t i = 0; go_on && i < from->n_pools; i++) {
        c.other = same_pool(to, &from->pools[i]);
        if (c.other) {
            go_on = each_of_pool(&from->pools[i], true, compare_one, &c);
        } else {
            tell_pool(&c, &from->pools[i], false);
        }
    }
    for (uint32_t i = 0; go_on && i < to->n_pools; i++) {
        if (!same_pool(from, &to->pools[i])) {
            tell_pool(&c, &to->pools[i], true);
        }
    }
    if (go_on) {
        compare_processes(&c, from, to);
    }
    return c.n;
}

int config_compare(const struct config *from, const struct config *to, config_change_fn *fn,
                   void *arg) {
    return compare(from, to, false, fn, arg);
}

static void note_roll(void *arg, const struct config_change *c) {
    *(bool *)arg |= c->when == CONFIG_ROLL;
}

bool config_rolls(const struct pool_config *from, const struct pool_config *to) {
    bool rolls = false;
    struct comparison c = {.other = to, .fn = note_roll, .arg = &rolls};
    each_of_pool(from, true, compare_one, &c);
    return rolls;
}

int config_settle(const struct config *from, struct config *to) {
    int r = compare(from, to, true, NULL, NULL);
    return r < 0 ? r : 0;
}

/* ---- rewriting ---- */

struct rewrite {
    FILE *f;
    unsigned top, limits;
    const char *pool; /* whose keys are being written; NULL: none */
    char name[CONFIG_POOL_NAME_MAX + 1];
    bool any_pool, rlimits;
};

static void end_pool(struct rewrite *w) {
    if (w->pool) {
        fputs(w->rlimits ? " };\n    }" : "\n    }", w->f);
    }
    w->pool = NULL;
    w->rlimits = false;
}

static void write_pool_key(struct rewrite *w, const struct config_change *c) {
    const char *key = c->key + strlen("pools.");
    size_t n = strcspn(key, ".");
    if (!w->pool || strlen(w->name) != n || strncmp(w->name, key, n) != 0) {
        end_pool(w);
        snprintf(w->name, sizeof(w->name), "%.*s", (int)n, key);
        fprintf(w->f, "%s\n    {\n        name = \"%s\";", w->any_pool ? "," : "override_pools = (",
                w->name);
        w->any_pool = true;
        w->pool = w->name;
    }
    key += n + 1;
    bool rlimit = strncmp(key, "rlimits.", strlen("rlimits.")) == 0;
    if (rlimit) {
        fputs(w->rlimits ? "" : "\n        rlimits = {", w->f);
        w->rlimits = true;
        fprintf(w->f, " %s = %s;", key + strlen("rlimits."), c->to);
    } else {
        fprintf(w->f, "\n        %s = %s;", key, c->to);
    }
}

/* In the order of the table: the top level, limits, then pool by pool. */
static void write_change(void *arg, const struct config_change *c) {
    struct rewrite *w = arg;
    if (c->what != CONFIG_CHANGED || c->when == CONFIG_RESTART || !*c->to) {
        return;
    }
    if (strncmp(c->key, "limits.", strlen("limits.")) == 0) {
        fprintf(w->f, "%s    %s = %s;\n", w->limits++ ? "" : "limits = {\n",
                c->key + strlen("limits."), c->to);
        return;
    }
    if (w->limits) {
        fputs("};\n", w->f);
        w->limits = 0;
    }
    if (strncmp(c->key, "pools.", strlen("pools.")) == 0) {
        write_pool_key(w, c);
    } else {
        fprintf(w->f, "%s = %s;\n", c->key, c->to);
        w->top++;
    }
}

static int cannot(struct config_error *err, const char *file, const char *what, int r) {
    *err = (struct config_error){0};
    snprintf(err->file, sizeof(err->file), "%s", file);
    snprintf(err->text, sizeof(err->text), "%s: %s", what, strerror(-r));
    return r;
}

/* Everything to disk, or nothing. */
static int write_file(const char *path, const struct config *base, const struct config *c,
                      struct config_error *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    struct rewrite w = {.f = fd < 0 ? NULL : fdopen(fd, "w")};
    if (!w.f) {
        int r = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return cannot(err, path, "cannot write it", r);
    }
    fputs(
        "# Written by CONFIG REWRITE, and written anew by the next one: it is read after all other "
        "files.\n# What is in force and differs from them:\n",
        w.f);
    int n = config_compare(base, c, write_change, &w);
    if (w.limits) {
        fputs("};\n", w.f);
    }
    end_pool(&w);
    fputs(w.any_pool ? "\n);\n" : "", w.f);
    bool bad = n < 0 || fflush(w.f) != 0 || fsync(fd) < 0;
    int r = n < 0 ? n : bad ? -errno : 0;
    if (fclose(w.f) != 0 && r == 0) {
        r = -errno;
    }
    return r < 0 ? cannot(err, path, "cannot write it", r) : 0;
}

static void count_change(void *arg, const struct config_change *c) {
    *(int *)arg += c->what == CONFIG_CHANGED && c->when != CONFIG_RESTART;
}

/* Reads everything back as the next start will. */
static int verify(const char *path, const char *made, const struct config *c,
                  struct config_error *err) {
    struct config *back;
    int differ = 0;
    int r = config_load_but(path, made, &back, err);
    if (r < 0) {
        return r;
    }
    r = config_compare(back, c, count_change, &differ);
    config_free(back);
    return r < 0        ? cannot(err, made, "cannot check it", r)
           : differ > 0 ? cannot(err, made, "what was written does not read back the same", -EINVAL)
                        : 0;
}

static void sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static int rewrite(const struct config *base, const struct config *c, const char *path,
                   struct config_error *err) {
    char directory[PATH_MAX], made[PATH_MAX], last[PATH_MAX];
    int differ = 0;
    snprintf(directory, sizeof(directory), "%s.d", path);
    if (snprintf(made, sizeof(made), "%s.d/.%s.new", path, CONFIG_REWRITE_NAME) >= PATH_MAX ||
        snprintf(last, sizeof(last), "%s.d/%s", path, CONFIG_REWRITE_NAME) >= PATH_MAX) {
        return cannot(err, path, "cannot write beside it", -ENAMETOOLONG);
    }
    int r = config_compare(base, c, count_change, &differ);
    if (r < 0) {
        return cannot(err, path, "cannot compare", r);
    }
    if (differ == 0) {
        return unlink(last) < 0 && errno != ENOENT ? cannot(err, last, "cannot remove it", -errno)
                                                   : 0;
    }
    if (mkdir(directory, 0755) < 0 && errno != EEXIST) {
        return cannot(err, directory, "cannot make it", -errno);
    }
    r = write_file(made, base, c, err);
    r = r < 0 ? r : verify(path, made, c, err);
    if (r == 0 && rename(made, last) < 0) {
        r = cannot(err, last, "cannot write it", -errno);
    }
    if (r < 0) {
        unlink(made);
        return r;
    }
    sync_directory(directory);
    return 0;
}

int config_rewrite(const struct config *c, struct config_error *err) {
    struct config *base;
    *err = (struct config_error){0};
    if (!c->files || !c->files[0]) {
        return -ENOENT;
    }
    int r = config_load_but(c->files[0], NULL, &base, err);
    if (r == 0) {
        r = rewrite(base, c, c->files[0], err);
        config_free(base);
    }
    return r;
}
