/* SPDX-License-Identifier: MIT */
/* The configuration, as a whole. A file goes through three sieves: config_scan.c (what libconfig
 * would take wrongly), libconfig (the grammar), and here the table of options.def: every name must
 * be a key of its section, every value must suit its type (config_value.c), and the pieces must fit
 * each other. The main file is read first, then PATH.d/ *.conf in order of their names; each is
 * applied to the same struct config, so that a later scalar wins and pools are collected.
 *
 * The defaults are values like any others: their text in options.def is parsed by the same code,
 * once per load. Nothing half-read gets out: the caller has a whole checked configuration or an
 * error with its place.
 *
 * Fails: -EINVAL, -ENOMEM or -errno of reading, always with *err filled. */
#include "daemon/config.h"

#include <dirent.h>
#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/config_scan.h"
#include "daemon/config_value.h"
#include "daemon/crontab.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/shm/segment.h"

static const char *const section_names[SECTIONS] = {
    [SECTION_TOP] = "",
    [SECTION_LIMITS] = "limits",
    [SECTION_POOL] = "pools",
    [SECTION_RLIMITS] = "rlimits",
    [SECTION_PROCESS] = "processes",
};

static const struct option *option_find(enum option_section section, const char *name) {
    for (unsigned i = 0; i < config_n_options; i++) {
        const struct option *o = &config_options[i];
        if (o->section == section && !strcmp(o->name, name)) {
            return o;
        }
    }
    return NULL;
}

/* ---- unknown keys ---- */

/* Edits (insert, delete, replace) from a to b; anything longer than the rows counts as far. */
static unsigned distance(const char *a, const char *b) {
    enum { ROW = 40 };
    unsigned row[ROW];
    size_t n = strlen(b);
    if (n >= ROW || strlen(a) >= ROW) {
        return ROW;
    }
    for (unsigned j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

/* The key a writer probably meant: the nearest in the section, else one of that very name
 * elsewhere. */
static const struct option *nearest(const char *name, enum option_section section) {
    unsigned least = 1 + (unsigned)strlen(name) / 3; /* a typing mistake, not another word */
    const struct option *near = NULL;
    for (unsigned i = 0; i < config_n_options; i++) {
        const struct option *o = &config_options[i];
        unsigned d = distance(name, o->name);
        if (d <= least && o->section == section) {
            near = o;
            least = d;
        } else if (d == 0 && !near) {
            near = o;
        }
    }
    return near;
}

static int fail_unknown(const struct reader *r, const config_setting_t *s,
                        enum option_section section) {
    static const char *const where[SECTIONS] = {
        [SECTION_TOP] = "the top level",
        [SECTION_LIMITS] = "limits = { }",
        [SECTION_POOL] = "a pool of pools = ( { } )",
        [SECTION_RLIMITS] = "rlimits = { } of a pool",
    };
    const struct option *near = nearest(config_setting_name(s), section);
    if (near && near->section == section) {
        return config_fail(r, s, "unknown key: did you mean \"%s\"?", near->name);
    }
    if (near) {
        return config_fail(r, s, "unknown key here: it belongs in %s", where[near->section]);
    }
    struct buf all = BUF_INIT;
    for (unsigned i = 0; i < config_n_options; i++) {
        if (config_options[i].section == section) {
            buf_printf(&all, "%s%s", buf_len(&all) ? ", " : "", config_options[i].name);
        }
    }
    config_fail(r, s, "unknown key: the keys here are %.*s", (int)buf_len(&all),
                buf_len(&all) ? buf_head(&all) : "");
    buf_deinit(&all);
    return -EINVAL;
}

/* ---- sections ---- */

static int read_group(const struct reader *r, enum option_section section,
                      const config_setting_t *group, void *base);
static int read_pools(const struct reader *r, const config_setting_t *list);
static int read_processes(const struct reader *r, const config_setting_t *list);
static int read_overrides(const struct reader *r, const config_setting_t *list);

static int read_key(const struct reader *r, const struct option *o, const config_setting_t *s,
                    void *base) {
    if (o->type == TYPE_POOLS) {
        return read_pools(r, s);
    }
    if (o->type == TYPE_PROCESSES) {
        return read_processes(r, s);
    }
    if (o->type == TYPE_OVERRIDES) {
        return read_overrides(r, s);
    }
    if (o->type == TYPE_SECTION) {
        /* limits is a struct inside; rlimits belong to the pool itself */
        bool limits = o->section == SECTION_TOP;
        return read_group(r, limits ? SECTION_LIMITS : SECTION_RLIMITS, s,
                          limits ? (char *)base + o->offset : base);
    }
    return config_value_read(r, o, s, base);
}

static int read_group(const struct reader *r, enum option_section section,
                      const config_setting_t *group, void *base) {
    if (!config_setting_is_group(group)) {
        return config_fail(r, group, "expected a group: %s = { key = value; };",
                           config_setting_name(group) ? config_setting_name(group) : "...");
    }
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const struct option *o = option_find(section, config_setting_name(s));
        int k = o ? read_key(r, o, s, base) : fail_unknown(r, s, section);
        if (k) {
            return k;
        }
    }
    return 0;
}

/* Gives every key of a section that has a default its value. */
static int apply_defaults(struct config *c, enum option_section section, void *base,
                          struct config_error *err) {
    struct reader r = {.config = c, .err = err, .file = "(defaults)"};
    struct buf text = BUF_INIT;
    for (unsigned i = 0; i < config_n_options; i++) {
        const struct option *o = &config_options[i];
        if (o->section == section && o->fallback &&
            buf_printf(&text, "%s = %s;\n", o->name, o->fallback)) {
            buf_deinit(&text);
            return -ENOMEM;
        }
    }
    int k = buf_append(&text, "", 1);
    if (!k) {
        config_t lc;
        config_init(&lc);
        k = config_read_string(&lc, buf_head(&text)) == CONFIG_TRUE
                ? read_group(&r, section, config_root_setting(&lc), base)
                : config_fail(&r, NULL, "line %d: %s", config_error_line(&lc),
                              config_error_text(&lc));
        config_destroy(&lc);
    }
    buf_deinit(&text);
    return k;
}

/* ---- pools ---- */

static void pool_deinit(struct pool_config *p) {
    for (unsigned i = 0; i < config_n_options; i++) {
        if (config_options[i].section == SECTION_POOL && config_options[i].type != TYPE_SECTION) {
            config_value_free(&config_options[i], p);
        }
    }
}

/* Keeps a file's name for as long as the configuration; NULL: no memory. */
static const char *keep_file(struct config *c, const char *file) {
    size_t n = 0;
    for (; c->files && c->files[n]; n++) {
        if (!strcmp(c->files[n], file)) {
            return c->files[n];
        }
    }
    char **more = realloc(c->files, (n + 2) * sizeof(char *));
    if (!more) {
        return NULL;
    }
    c->files = more;
    c->files[n] = strdup(file);
    c->files[n + 1] = NULL;
    return c->files[n];
}

const char *const config_restart_names[RESTARTS] = {
    [RESTART_DRAIN] = "drain",
    [RESTART_HANDOVER] = "handover",
};

const char *const pool_sizing_names[SIZINGS] = {
    [SIZING_STATIC] = "static",
    [SIZING_DYNAMIC] = "dynamic",
    [SIZING_ONDEMAND] = "ondemand",
};

const char *const pool_seccomp_names[POOL_SECCOMPS] = {
    [POOL_SECCOMP_NONE] = "none",
    [POOL_SECCOMP_BASIC] = "basic",
    [POOL_SECCOMP_OFFLINE] = "offline",
};

const char *const pool_overflow_names[OVERFLOWS] = {
    [OVERFLOW_REJECT] = "reject",
    [OVERFLOW_BLOCK] = "block",
    [OVERFLOW_DROP] = "drop_oldest",
};

/* Which kinds of sizing a key of a pool is for, as bits; 0: any. */
static unsigned sizings_of(const char *key) {
    static const struct {
        const char *key;
        unsigned sizings;
    } rules[] = {
        {"workers", 1 << SIZING_STATIC},
        {"min", 1 << SIZING_DYNAMIC},
        {"spare", 1 << SIZING_DYNAMIC},
        {"max", 1 << SIZING_DYNAMIC | 1 << SIZING_ONDEMAND},
        {"spawn_rate", 1 << SIZING_DYNAMIC | 1 << SIZING_ONDEMAND},
        {"idle_timeout", 1 << SIZING_DYNAMIC | 1 << SIZING_ONDEMAND},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        if (!strcmp(rules[i].key, key)) {
            return rules[i].sizings;
        }
    }
    return 0;
}

static bool sizing_has(const struct pool_config *p, const char *key) {
    unsigned sizings = sizings_of(key);
    return !sizings || sizings >> p->sizing & 1;
}

/* Whether a key of a pool also means something with another sizing, given as it is written in the file. */
static bool sizing_keeps(const char *sizing, const char *key) {
    unsigned sizings = sizings_of(key);
    for (unsigned i = 0; i < SIZINGS; i++) {
        size_t n = strlen(pool_sizing_names[i]);
        if (strlen(sizing) == n + 2 && strncmp(sizing + 1, pool_sizing_names[i], n) == 0) {
            return !sizings || sizings >> i & 1;
        }
    }
    return !sizings; /* which the check will refuse */
}

/* Refuses what does not fit together, and gives each kind of sizing the numbers of all. */
static int read_sizes(const struct reader *r, const config_setting_t *group,
                      struct pool_config *p) {
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const char *key = config_setting_name(s);
        if (!sizing_has(p, key)) {
            unsigned fit = sizings_of(key);
            return config_fail(
                r, s, "sizing is \"%s\", and %s is for %s%s%s", pool_sizing_names[p->sizing], key,
                fit >> SIZING_STATIC & 1 ? "\"static\"" : "\"dynamic\"",
                fit >> SIZING_ONDEMAND & 1 ? " and \"ondemand\"" : "",
                p->sizing != SIZING_STATIC && fit == 1 << SIZING_STATIC ? ": write max = ..." : "");
        }
    }
    if (p->threads > 1 && p->kind != POOL_MODULE) {
        return config_fail(r, config_setting_get_member(group, "threads"),
                           "threads are for modules: write workers = ...");
    }
    if (p->sizing == SIZING_STATIC) {
        p->min = p->max = p->workers;
        p->spare = 0;
        return 0;
    }
    p->workers = p->max;
    if (p->sizing == SIZING_ONDEMAND) {
        p->min = p->spare = 0;
        return 0;
    }
    bool over = p->min > p->max;
    const config_setting_t *s = config_setting_get_member(group, over ? "min" : "spare");
    if (over || p->spare > p->max) {
        return config_fail(r, s ? s : group, "%s = %u is more than max = %u%s",
                           over ? "min" : "spare", over ? p->min : p->spare, p->max,
                           config_setting_get_member(group, "max") ? "" : " (auto)");
    }
    return 0;
}

const char *const pool_kind_names[] = {
    [POOL_MODULE] = "module",
    [POOL_EXEC] = "exec",
    [POOL_PROGRAM] = "program",
};

const char *const retry_kind_names[RETRY_KINDS] = {
    [RETRY_ERROR] = "error",
    [RETRY_CRASH] = "crash",
    [RETRY_TIMEOUT] = "timeout",
    [RETRY_MEMORY] = "memory",
};

uint32_t retry_kind_bit(const char *name, size_t len) {
    for (uint32_t i = 0; i < RETRY_KINDS; i++) {
        if (strlen(retry_kind_names[i]) == len &&
            strncasecmp(retry_kind_names[i], name, len) == 0) {
            return UINT32_C(1) << i;
        }
    }
    return 0;
}

/* Is there a schedule of this line's name before it? */
static bool name_is_taken(const struct config *c, const char *line, const char *name) {
    size_t len = strlen(name);
    for (uint32_t i = 0; i < c->n_pools; i++) {
        for (uint32_t k = 0; k < c->pools[i].schedules.n; k++) {
            const char *other = c->pools[i].schedules.v[k];
            if (other == line) {
                return false;
            }
            if (strncmp(other, name, len) == 0 && strncmp(other + len, ": ", 2) == 0) {
                return true;
            }
        }
    }
    return false;
}

static int read_schedules(const struct reader *r, const config_setting_t *group,
                          const struct pool_config *p) {
    for (uint32_t i = 0; i < p->schedules.n; i++) {
        const char *line = p->schedules.v[i];
        struct crontab_line l;
        char error[CRON_ERROR];
        int k = crontab_parse(line, &l, error);
        if (k == -ENOMEM) {
            return k;
        }
        bool taken = k == 0 && name_is_taken(r->config, line, l.name);
        if (k == 0) {
            crontab_deinit(&l);
        }
        if (k < 0 || taken) {
            return config_fail(r, config_setting_get_member(group, "schedules"), "\"%s\": %s", line,
                               taken ? "there is a schedule of this name before it" : error);
        }
    }
    return 0;
}

static int read_retry_kinds(const struct reader *r, const config_setting_t *group,
                            struct pool_config *p) {
    for (uint32_t i = 0; i < p->retry_on.n; i++) {
        const char *name = p->retry_on.v[i];
        uint32_t bit = retry_kind_bit(name, strlen(name));
        if (!bit) {
            return config_fail(r, config_setting_get_member(group, "retry_on"),
                               "\"%s\" is no kind of failure: error, crash, timeout, memory", name);
        }
        p->retry_kinds |= bit;
    }
    return 0;
}

/* What is said for programs alone. */
static int program_check(const struct reader *r, const config_setting_t *group,
                         const struct pool_config *p) {
    bool program = p->kind == POOL_PROGRAM;
    if ((p->prefork && (!program || !p->program.n)) || (p->handlers.n && !program)) {
        const char *key = p->handlers.n && !program ? "handlers" : "prefork";
        return config_fail(r, config_setting_get_member(group, key), "%s is for pools with program",
                           key);
    }
    if (p->handlers.n > CONFIG_HANDLERS_MAX) {
        return config_fail(r, config_setting_get_member(group, "handlers"),
                           "a program has at most %d handlers", CONFIG_HANDLERS_MAX);
    }
    if (program && p->program.n && !p->handlers.n && p->min + p->spare == 0) {
        return config_fail(r, group,
                           "pool \"%s\" begins without workers, which else would say what its "
                           "handlers are: name them, handlers = [ \"NAME\" ]",
                           p->name);
    }
    for (uint32_t i = 0; i < p->handlers.n; i++) {
        size_t n = strlen(p->handlers.v[i]);
        if (n == 0 || n > CONFIG_HANDLER_NAME_MAX) {
            return config_fail(r, config_setting_get_member(group, "handlers"),
                               "a handler's name has 1 to %d characters", CONFIG_HANDLER_NAME_MAX);
        }
    }
    return 0;
}

static int pool_check(const struct reader *r, const config_setting_t *group,
                      struct pool_config *p) {
    const config_setting_t *module = config_setting_get_member(group, "module");
    const config_setting_t *exec = config_setting_get_member(group, "exec");
    const config_setting_t *program = config_setting_get_member(group, "program");
    if (!p->name) {
        return config_fail(r, group, "a pool needs a name: name = \"...\"");
    }
    int kinds = !!module + !!exec + !!program;
    if (kinds != 1) {
        return config_fail(r,
                           exec      ? exec
                           : program ? program
                                     : group,
                           "pool \"%s\" needs either module = \"FILE.so\", exec = [ \"COMMAND\" ] "
                           "or program = [ \"COMMAND\" ], and has %s",
                           p->name,
                           kinds == 0   ? "none of them"
                           : kinds == 2 ? "two of them"
                                        : "all of them");
    }
    p->kind = module ? POOL_MODULE : exec ? POOL_EXEC : POOL_PROGRAM;
    int k = read_retry_kinds(r, group, p);
    k = k ? k : read_schedules(r, group, p);
    k = k ? k : read_sizes(r, group, p);
    k = k ? k : program_check(r, group, p);
    if (k) {
        return k;
    }
    if (!module && p->args.n) {
        return config_fail(r, config_setting_get_member(group, "args"),
                           "args are for a module's initializer: write a command's words in %s",
                           exec ? "exec" : "program");
    }
    const struct config *c = r->config;
    for (uint32_t i = 0; i + 1 < c->n_pools; i++) {
        if (!strcmp(c->pools[i].name, p->name)) {
            return config_fail(r, config_setting_get_member(group, "name"),
                               "there is a pool \"%s\" already, at %s:%u", p->name,
                               c->pools[i].file, c->pools[i].line);
        }
    }
    return 0;
}

static int read_pool(const struct reader *r, const config_setting_t *group) {
    struct config *c = r->config;
    char file[PATH_MAX];
    if (!config_setting_is_group(group)) {
        return config_fail(r, group, "expected a pool: { name = \"...\"; module = \"...\"; }");
    }
    if (c->n_pools == SHM_POOLS) {
        return config_fail(r, group, "more than %d pools", SHM_POOLS);
    }
    struct pool_config *more = realloc(c->pools, (c->n_pools + 1) * sizeof(*more));
    if (!more) {
        return -ENOMEM;
    }
    c->pools = more;
    struct pool_config *p = &c->pools[c->n_pools];
    *p = (struct pool_config){.exec.v = calloc(1, sizeof(char *)),
                              .program.v = calloc(1, sizeof(char *))};
    c->n_pools++;
    for (unsigned i = 0; i < RLIM_NLIMITS; i++) {
        p->rlimit[i] = CONFIG_INHERIT;
    }
    config_setting_place(r, group, file);
    p->file = keep_file(c, file);
    p->line = config_setting_source_line(group);
    if (!p->exec.v || !p->program.v || !p->file) {
        return -ENOMEM;
    }
    int k = apply_defaults(c, SECTION_POOL, p, r->err);
    k = k ? k : apply_defaults(c, SECTION_RLIMITS, p, r->err);
    k = k ? k : read_group(r, SECTION_POOL, group, p);
    return k ? k : pool_check(r, group, p);
}

static int read_pools(const struct reader *r, const config_setting_t *list) {
    if (!config_setting_is_list(list)) {
        return config_fail(r, list,
                           "expected a list of pools: pools = ( { name = \"...\"; ... } );");
    }
    for (int i = 0; i < config_setting_length(list); i++) {
        int k = read_pool(r, config_setting_get_elem(list, (unsigned)i));
        if (k) {
            return k;
        }
    }
    return 0;
}

/* ---- processes ---- */

const char *const proc_restart_names[PROC_RESTARTS] = {
    [PROC_NEVER] = "never",
    [PROC_ON_FAILURE] = "on-failure",
    [PROC_ALWAYS] = "always",
};

static void process_deinit(struct process_config *p) {
    for (unsigned i = 0; i < config_n_options; i++) {
        if (config_options[i].section == SECTION_PROCESS) {
            config_value_free(&config_options[i], p);
        }
    }
}

static int process_check(const struct reader *r, const config_setting_t *group,
                         const struct process_config *p) {
    const struct config *c = r->config;
    if (!p->name) {
        return config_fail(r, group, "the process has no name: name = \"...\";");
    }
    if (*p->name >= '0' && *p->name <= '9') {
        return config_fail(r, config_setting_get_member(group, "name"),
                           "a process's name does not begin with a digit: that would be an id");
    }
    if (p->command.n == 0 || !*p->command.v[0]) {
        return config_fail(r, group, "process \"%s\" has no command: command = [ \"...\" ];",
                           p->name);
    }
    for (uint32_t i = 0; i + 1 < c->n_processes; i++) {
        if (strcmp(c->processes[i].name, p->name) == 0) {
            return config_fail(r, config_setting_get_member(group, "name"),
                               "there is a process \"%s\" already, at %s:%u", p->name,
                               c->processes[i].file, c->processes[i].line);
        }
    }
    return 0;
}

static int read_process(const struct reader *r, const config_setting_t *group) {
    struct config *c = r->config;
    char file[PATH_MAX];
    if (!config_setting_is_group(group)) {
        return config_fail(r, group,
                           "expected a process: { name = \"...\"; command = [ \"...\" ]; }");
    }
    struct process_config *more = realloc(c->processes, (c->n_processes + 1) * sizeof(*more));
    if (!more) {
        return -ENOMEM;
    }
    c->processes = more;
    struct process_config *p = &c->processes[c->n_processes++];
    *p = (struct process_config){.line = config_setting_source_line(group),
                                 .command.v = calloc(1, sizeof(char *))};
    config_setting_place(r, group, file);
    p->file = keep_file(c, file);
    int k = p->file && p->command.v ? apply_defaults(c, SECTION_PROCESS, p, r->err) : -ENOMEM;
    k = k ? k : read_group(r, SECTION_PROCESS, group, p);
    return k ? k : process_check(r, group, p);
}

static int read_processes(const struct reader *r, const config_setting_t *list) {
    if (!config_setting_is_list(list)) {
        return config_fail(
            r, list, "expected a list of processes: processes = ( { name = \"...\"; ... } );");
    }
    int k = 0;
    for (int i = 0; i < config_setting_length(list) && !k; i++) {
        k = read_process(r, config_setting_get_elem(list, (unsigned)i));
    }
    return k;
}

/* ---- overrides ---- */

int config_edits_add(struct config_edits *e, const char *key, const char *value) {
    struct config_edit *more = realloc(e->v, (e->n + 1) * sizeof(*more));
    if (!more) {
        return -ENOMEM;
    }
    e->v = more;
    e->v[e->n] = (struct config_edit){strdup(key), strdup(value)};
    e->n++;
    return e->v[e->n - 1].key && e->v[e->n - 1].value ? 0 : -ENOMEM;
}

void config_edits_free(struct config_edits *e) {
    for (uint32_t i = 0; i < e->n; i++) {
        free(e->v[i].key);
        free(e->v[i].value);
    }
    free(e->v);
    *e = (struct config_edits){0};
}

/* Reads the value, so that a mistake is told with its place, and keeps it as text. */
static int read_override(const struct reader *r, const char *prefix, enum option_section section,
                         const config_setting_t *s) {
    const struct option *o = option_find(section, config_setting_name(s));
    struct pool_config scratch = {0};
    _cleanup_free_ char *text = NULL;
    char key[CONFIG_POOL_NAME_MAX + 80];
    size_t n;
    if (!o || o->type == TYPE_SECTION) {
        return fail_unknown(r, s, section);
    }
    int k = config_value_read(r, o, s, &scratch);
    if (k) {
        return k;
    }
    FILE *f = open_memstream(&text, &n);
    if (f) {
        config_value_print(o, &scratch, f);
    }
    config_value_free(o, &scratch);
    if (!f || fclose(f) != 0) {
        return -ENOMEM;
    }
    snprintf(key, sizeof(key), "%s%s", prefix, o->name);
    return config_edits_add(&r->config->edits, key, text);
}

static int read_overrides_of(const struct reader *r, const char *prefix,
                             enum option_section section, const config_setting_t *group) {
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        char inner[CONFIG_POOL_NAME_MAX + 40];
        int k = 0;
        if (section == SECTION_POOL && strcmp(config_setting_name(s), "rlimits") == 0 &&
            config_setting_is_group(s)) {
            snprintf(inner, sizeof(inner), "%srlimits.", prefix);
            k = read_overrides_of(r, inner, SECTION_RLIMITS, s);
        } else if (section != SECTION_POOL || strcmp(config_setting_name(s), "name") != 0) {
            k = read_override(r, prefix, section, s);
        }
        if (k) {
            return k;
        }
    }
    return 0;
}

static int read_overrides(const struct reader *r, const config_setting_t *list) {
    for (int i = 0; config_setting_is_list(list) && i < config_setting_length(list); i++) {
        const config_setting_t *group = config_setting_get_elem(list, (unsigned)i);
        const char *name = NULL;
        char prefix[CONFIG_POOL_NAME_MAX + 16];
        bool known = false;
        if (!config_setting_is_group(group) ||
            config_setting_lookup_string(group, "name", &name) != CONFIG_TRUE) {
            return config_fail(r, group,
                               "expected the name of a pool, and what is to be different "
                               "in it: { name = \"...\"; workers = 4; }");
        }
        for (uint32_t p = 0; p < r->config->n_pools; p++) {
            known |= strcmp(r->config->pools[p].name, name) == 0;
        }
        if (!known) {
            return config_fail(r, group, "there is no pool \"%.40s\" in the files before", name);
        }
        snprintf(prefix, sizeof(prefix), "pools.%s.", name);
        int k = read_overrides_of(r, prefix, SECTION_POOL, group);
        if (k) {
            return k;
        }
    }
    return config_setting_is_list(list)
               ? 0
               : config_fail(r, list, "expected a list: override_pools = ( { name = \"...\"; } );");
}

/* ---- the whole ---- */

/* What one key alone cannot show. */
static int check_whole(const struct config *c, const char *name, struct config_error *err) {
    struct reader r = {.config = (struct config *)c, .err = err, .file = name};
    uint64_t workers = 0;
    if (c->tasks_max > 0 && c->tasks_max < 16) {
        config_fail(&r, NULL, "%u task records are too few: 0 or at least 16", c->tasks_max);
        snprintf(err->key, sizeof(err->key), "tasks_max");
        return -EINVAL;
    }
    for (uint32_t i = 0; i < c->n_pools; i++) {
        workers += (uint64_t)c->pools[i].workers * c->pools[i].threads;
        if (workers > CONFIG_WORKERS_MAX) {
            config_fail(&r, NULL,
                        "the pools up to \"%s\" have %u workers%s, at most %d are possible",
                        c->pools[i].name, (unsigned)workers,
                        c->pools[i].threads > 1 ? " and threads" : "", CONFIG_WORKERS_MAX);
            snprintf(err->file, sizeof(err->file), "%s", c->pools[i].file);
            err->line = c->pools[i].line;
            snprintf(err->key, sizeof(err->key), "pools");
            return -EINVAL;
        }
    }
    return 0;
}

static void parse_failed(const struct reader *r, const config_t *lc) {
    const char *file = config_error_file(lc);
    config_fail(r, NULL, "%s", config_error_text(lc) ? config_error_text(lc) : "cannot be read");
    if (file && r->dir) {
        snprintf(r->err->file, sizeof(r->err->file), "%.*s/%s", PATH_MAX / 2, r->dir, file);
    }
    r->err->line = config_error_line(lc) > 0 ? (unsigned)config_error_line(lc) : 0;
}

/* Applies the text of one file. */
static int apply_text(struct config *c, const char *text, size_t len, const char *name,
                      const char *dir, struct config_error *err) {
    struct reader r = {.config = c, .err = err, .file = name, .dir = dir};
    int k = config_scan(text, len, name, dir, err);
    if (k) {
        return k;
    }
    config_t lc;
    config_init(&lc);
    if (dir) {
        config_set_include_dir(&lc, dir);
    }
    if (config_read_string(&lc, text) != CONFIG_TRUE) {
        parse_failed(&r, &lc);
        k = -EINVAL;
    } else {
        k = read_group(&r, SECTION_TOP, config_root_setting(&lc), c);
    }
    config_destroy(&lc);
    return k;
}

static int apply_file(struct config *c, const char *path, struct config_error *err) {
    _cleanup_free_ char *text = NULL;
    size_t len;
    int k = config_read_text(path, &text, &len, err);
    if (k) {
        return k;
    }
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *dir =
        slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!dir || !keep_file(c, path)) {
        return -ENOMEM;
    }
    return apply_text(c, text, len, path, dir, err);
}

static int is_drop_in(const struct dirent *e) {
    size_t n = strlen(e->d_name);
    return n > 5 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 5, ".conf") &&
           strcmp(e->d_name, CONFIG_REWRITE_NAME) != 0;
}

static int apply_drop_ins(struct config *c, const char *main_path, struct config_error *err) {
    struct reader r = {.config = c, .err = err};
    struct dirent **names;
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s.d", main_path) >= (int)sizeof(path)) {
        return 0; /* such a directory cannot exist */
    }
    int n = scandir(path, &names, is_drop_in, alphasort);
    if (n < 0) {
        int k = -errno;
        r.file = path;
        return k == -ENOENT ? 0 : (config_fail(&r, NULL, "cannot read it: %s", strerror(-k)), k);
    }
    int k = 0;
    for (int i = 0; i < n; i++) {
        char *file = NULL;
        if (!k) {
            k = asprintf(&file, "%s/%s", path, names[i]->d_name) < 0 ? -ENOMEM
                                                                     : apply_file(c, file, err);
            free(file);
        }
        free(names[i]);
    }
    free(names);
    return k;
}

static struct config *config_new(struct config_error *err, int *ret_error) {
    *err = (struct config_error){0};
    struct config *c = calloc(1, sizeof(*c));
    if (c) {
        c->refs = 1;
    }
    int k = c ? apply_defaults(c, SECTION_TOP, c, err) : -ENOMEM;
    k = k ? k : apply_defaults(c, SECTION_LIMITS, &c->limits, err);
    *ret_error = k;
    return k ? config_free(c) : c;
}

/* Overrides are made as any change is: to the whole. */
static int override(struct config **c, const char *name, struct config_error *err) {
    struct config *changed;
    if ((*c)->edits.n == 0) {
        return 0;
    }
    int k = config_with(*c, &(*c)->edits, name, &changed, err);
    if (!k) {
        config_free(*c);
        *c = changed;
    }
    return k;
}

/* The common end of both ways to load: hands over, or frees and sees that the error says something.
 */
static int finish(struct config *c, int k, const char *name, struct config **ret,
                  struct config_error *err) {
    if (c && !k) {
        k = override(&c, name, err);
    }
    if (c && !k) {
        k = check_whole(c, name, err);
    }
    if (k) {
        if (!err->text[0]) {
            struct reader r = {.err = err, .file = name};
            config_fail(&r, NULL, "%s", strerror(-k));
        }
        config_free(c);
        return k;
    }
    *ret = c;
    return 0;
}

static int load(const char *path, const char *last, bool must, struct config **ret,
                struct config_error *err) {
    int k;
    struct config *c = config_new(err, &k);
    if (c && path) {
        k = apply_file(c, path, err);
        k = k ? k : apply_drop_ins(c, path, err);
        if (!k && *last && (must || access(last, F_OK) == 0)) {
            k = apply_file(c, last, err);
        }
    }
    return finish(c, k, path ? path : "(defaults)", ret, err);
}

int config_load(const char *path, struct config **ret, struct config_error *err) {
    char last[PATH_MAX] = "";
    if (path &&
        snprintf(last, sizeof(last), "%s.d/" CONFIG_REWRITE_NAME, path) >= (int)sizeof(last)) {
        last[0] = '\0'; /* it cannot exist */
    }
    return load(path, last, false, ret, err);
}

int config_load_but(const char *path, const char *instead, struct config **ret,
                    struct config_error *err) {
    return load(path, instead ? instead : "", true, ret, err);
}

int config_load_text(const char *text, size_t len, const char *name, struct config **ret,
                     struct config_error *err) {
    int k;
    struct config *c = config_new(err, &k);
    if (c) {
        char *copy =
            strndup(text, len); /* libconfig wants a NUL; a NUL inside is for the scan to find */
        k = copy ? apply_text(c, copy, memchr(text, 0, len) ? strlen(copy) + 1 : len, name, NULL,
                              err)
                 : -ENOMEM;
        free(copy);
    }
    return finish(c, k, name, ret, err);
}

struct config *config_ref(struct config *c) {
    c->refs++;
    return c;
}

struct config *config_free(struct config *c) {
    if (!c || --c->refs > 0) {
        return NULL;
    }
    for (unsigned i = 0; i < config_n_options; i++) {
        if (config_options[i].section == SECTION_TOP) {
            config_value_free(&config_options[i], c);
        }
    }
    for (uint32_t i = 0; i < c->n_pools; i++) {
        pool_deinit(&c->pools[i]);
    }
    for (uint32_t i = 0; i < c->n_processes; i++) {
        process_deinit(&c->processes[i]);
    }
    free(c->processes);
    for (size_t i = 0; c->files && c->files[i]; i++) {
        free(c->files[i]);
    }
    config_edits_free(&c->edits);
    free(c->files);
    free(c->pools);
    free(c);
    return NULL;
}

int config_set_socket(struct config *c, const char *path) {
    if (!*path || strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return -ENAMETOOLONG;
    }
    return config_set_string(&c->socket_path, path);
}

/* ---- writing ---- */

bool config_pool_has(const struct pool_config *p, const struct option *o) {
    return (strcmp(o->name, "module") != 0 || p->kind == POOL_MODULE) &&
           (strcmp(o->name, "exec") != 0 || p->kind == POOL_EXEC) &&
           (strcmp(o->name, "program") != 0 || p->kind == POOL_PROGRAM) && sizing_has(p, o->name);
}

/* What the key is to be instead, or NULL. */
static const char *edited(const struct config_edits *e, const char *prefix, const char *name) {
    size_t n = strlen(prefix);
    for (uint32_t i = 0; e && i < e->n; i++) {
        if (strncmp(e->v[i].key, prefix, n) == 0 && strcmp(e->v[i].key + n, name) == 0) {
            return e->v[i].value;
        }
    }
    return NULL;
}

static void print_section(FILE *f, enum option_section section, const void *base,
                          const char *indent, const char *prefix, const struct config_edits *e) {
    for (unsigned i = 0; i < config_n_options; i++) {
        const struct option *o = &config_options[i];
        if (o->section != section || o->type == TYPE_SECTION || o->type == TYPE_POOLS ||
            o->type == TYPE_PROCESSES || o->type == TYPE_OVERRIDES) {
            continue;
        }
        const char *instead = edited(e, prefix, o->name);
        const char *sizing = section == SECTION_POOL ? edited(e, prefix, "sizing") : NULL;
        if (section == SECTION_POOL && !instead &&
            (!config_pool_has(base, o) || (sizing && !sizing_keeps(sizing, o->name)))) {
            continue;
        }
        fprintf(f, "%s%s = ", indent, o->name);
        if (instead) {
            fputs(instead, f);
        } else {
            config_value_print(o, base, f);
        }
        fputs(";\n", f);
    }
}

/* In the order of the table, as it is written. */
void config_print_process(const struct process_config *p, FILE *f) {
    fputs("    {\n", f);
    print_section(f, SECTION_PROCESS, p, "        ", "", NULL);
    fputs("    }", f);
}

void config_print(const struct config *c, FILE *f) {
    config_print_with(c, NULL, f);
}

void config_print_with(const struct config *c, const struct config_edits *e, FILE *f) {
    print_section(f, SECTION_TOP, c, "", "", e);
    fputs("limits = {\n", f);
    print_section(f, SECTION_LIMITS, &c->limits, "    ", "limits.", e);
    fputs("};\npools = (", f);
    for (uint32_t i = 0; i < c->n_pools; i++) {
        const struct pool_config *p = &c->pools[i];
        char prefix[CONFIG_POOL_NAME_MAX + 32];
        snprintf(prefix, sizeof(prefix), "pools.%s.", p->name);
        fprintf(f, "%s\n    {", i ? "," : "");
        if (!strchr(p->file, '\n')) {
            fprintf(f, " # %s:%u", p->file, p->line);
        }
        fputc('\n', f);
        print_section(f, SECTION_POOL, p, "        ", prefix, e);
        fputs("        rlimits = {\n", f);
        snprintf(prefix, sizeof(prefix), "pools.%s.rlimits.", p->name);
        print_section(f, SECTION_RLIMITS, p, "            ", prefix, e);
        fputs("        };\n    }", f);
    }
    fputs(c->n_pools ? "\n);\n" : " );\n", f);
    for (uint32_t i = 0; i < c->n_processes; i++) {
        fputs(i ? ",\n" : "processes = (\n", f);
        config_print_process(&c->processes[i], f);
    }
    fputs(c->n_processes ? "\n);\n" : "", f);
}

const struct config_key *config_key(unsigned i) {
    static struct config_key key;
    if (i >= config_n_options) {
        return NULL;
    }
    const struct option *o = &config_options[i];
    key = (struct config_key){.section = section_names[o->section],
                              .name = o->name,
                              .type = config_type_names[o->type],
                              .fallback = o->fallback,
                              .when = o->when,
                              .doc = o->doc};
    return &key;
}
