/* SPDX-License-Identifier: MIT */
/* The values of the configuration, by type. A row of options.def names a type; here is what each
 * type accepts, how it is stored, and how it is written back. Every refusal says what was expected
 * and shows it, because libconfig's own view (a "float" that must have a point, a large integer cut
 * to 32 bits) is no help to an administrator:
 *
 *   - sizes are strings with a unit, since a plain integer over 2^31 would be cut by libconfig 1.5;
 *   - seconds are integers or floats alike, stored as milliseconds;
 *   - lists of words are arrays or lists of strings, empty ones too.
 *
 * Fails: -EINVAL with a filled error, -ENOMEM. A field is changed only when its new value is whole.
 */
#include "daemon/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "lib/base/cleanup.h"
#include "lib/base/cpu.h"
#include "lib/base/num.h"

#define STRUCT_TOP     struct config
#define STRUCT_LIMITS  struct config_limits
#define STRUCT_POOL    struct pool_config
#define STRUCT_RLIMITS struct pool_config
#define STRUCT_PROCESS struct process_config

const struct option config_options[] = {
#define OPTION(sect, key, type, when, field, fallback, min, max, doc)                              \
    {SECTION_##sect,                                                                               \
     #key,                                                                                         \
     TYPE_##type,                                                                                  \
     CONFIG_##when,                                                                                \
     offsetof(STRUCT_##sect, field),                                                               \
     sizeof(((STRUCT_##sect *)0)->field),                                                          \
     fallback,                                                                                     \
     min,                                                                                          \
     max,                                                                                          \
     doc},
#include "daemon/options.def"
#undef OPTION
};
const unsigned config_n_options = ARRAY_SIZE(config_options);

const char *const config_type_names[TYPES] = {
    [TYPE_SOCKET] = "path",
    [TYPE_PLACE] = "path",
    [TYPE_DATABASE] = "path",
    [TYPE_MODE] = "mode",
    [TYPE_USER] = "user",
    [TYPE_GROUP] = "group",
    [TYPE_SIZE] = "size",
    [TYPE_SIZE_INHERIT] = "size or \"inherit\"",
    [TYPE_COUNT] = "number",
    [TYPE_COUNT_INHERIT] = "number or \"inherit\"",
    [TYPE_NUMBER] = "number",
    [TYPE_SECONDS] = "seconds",
    [TYPE_LEVEL] = "level",
    [TYPE_SIGNAL] = "signal",
    [TYPE_NAME] = "name",
    [TYPE_WORKERS] = "number or \"auto\"",
    [TYPE_SIZING] = "word",
    [TYPE_OVERFLOW] = "word",
    [TYPE_RESTART] = "word",
    [TYPE_SECCOMP] = "word",
    [TYPE_HANDOVER] = "word",
    [TYPE_MODULE] = "file",
    [TYPE_DIRECTORY] = "directory",
    [TYPE_WORDS] = "list of strings",
    [TYPE_COMMAND] = "list of strings",
    [TYPE_ENV] = "list of strings",
    [TYPE_PATHS] = "list of strings",
    [TYPE_WEIGHTS] = "list of strings",
    [TYPE_USERS] = "list of users",
    [TYPE_BOOL] = "true or false",
    [TYPE_SECTION] = "group",
    [TYPE_POOLS] = "list of groups",
    [TYPE_PROCESSES] = "list of groups",
    [TYPE_OVERRIDES] = "list of groups",
};

/* Types whose value is one of a few words: stored as its number. */
static const struct {
    const char *const *names;
    unsigned n;
} one_of[TYPES] = {
    [TYPE_LEVEL] = {log_level_names, LOG_LEVELS},
    [TYPE_SIZING] = {pool_sizing_names, SIZINGS},
    [TYPE_OVERFLOW] = {pool_overflow_names, OVERFLOWS},
    [TYPE_RESTART] = {proc_restart_names, PROC_RESTARTS},
    [TYPE_SECCOMP] = {pool_seccomp_names, POOL_SECCOMPS},
    [TYPE_HANDOVER] = {config_restart_names, RESTARTS},
};

/* Those that are stored as a string of their own. */
static bool is_text(enum option_type type) {
    return type == TYPE_SOCKET || type == TYPE_PLACE || type == TYPE_DATABASE ||
           type == TYPE_USER || type == TYPE_GROUP || type == TYPE_NAME || type == TYPE_MODULE ||
           type == TYPE_DIRECTORY;
}

/* Those that are stored as struct config_strings. */
static bool is_list(enum option_type type) {
    return type == TYPE_WORDS || type == TYPE_COMMAND || type == TYPE_ENV || type == TYPE_PATHS ||
           type == TYPE_WEIGHTS || type == TYPE_USERS;
}

/* ---- refusals ---- */

enum { WEIGHT_MAX = 1000 }; /* of a user */

static const char *type_found(const config_setting_t *s) {
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_GROUP:
        return "a group { }";
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return "an integer";
    case CONFIG_TYPE_FLOAT:
        return "a number with a point";
    case CONFIG_TYPE_STRING:
        return "a string";
    case CONFIG_TYPE_BOOL:
        return "a boolean";
    case CONFIG_TYPE_ARRAY:
        return "an array [ ]";
    default:
        return "a list ( )";
    }
}

static int fail_type(const struct reader *r, const config_setting_t *s, const char *expected) {
    return config_fail(r, s, "expected %s, found %s", expected, type_found(s));
}

static bool is_string(const config_setting_t *s) {
    return config_setting_type(s) == CONFIG_TYPE_STRING;
}

static bool is_integer(const config_setting_t *s) {
    return config_setting_type(s) == CONFIG_TYPE_INT || config_setting_type(s) == CONFIG_TYPE_INT64;
}

static bool is_word(const config_setting_t *s, const char *word) {
    return is_string(s) && !strcmp(config_setting_get_string(s), word);
}

/* ---- numbers ---- */

/* A size as one writes it, exactly: "256M". */
static const char *size_spell(char out[24], uint64_t v) {
    unsigned u = 0;
    while (v && v % 1024 == 0 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, 24, "%" PRIu64 "%.1s", v, &"\0KMGT"[u]);
    return out;
}

/* Milliseconds as seconds: "30", "0.25". */
static const char *seconds_spell(char out[24], uint64_t ms) {
    int n = snprintf(out, 24, "%" PRIu64 ".%03u", ms / 1000, (unsigned)(ms % 1000));
    while (out[n - 1] == '0') {
        out[--n] = '\0';
    }
    if (out[n - 1] == '.') {
        out[--n] = '\0';
    }
    return out;
}

static void store(const struct option *o, void *base, uint64_t v) {
    void *at = (char *)base + o->offset;
    if (o->size == sizeof(uint32_t)) {
        uint32_t narrow = (uint32_t)v;
        memcpy(at, &narrow, sizeof(narrow));
    } else {
        memcpy(at, &v, sizeof(v));
    }
}

static uint64_t fetch(const struct option *o, const void *base) {
    const void *at = (const char *)base + o->offset;
    uint32_t narrow;
    uint64_t v;
    if (o->size == sizeof(narrow)) {
        memcpy(&narrow, at, sizeof(narrow));
        return narrow;
    }
    memcpy(&v, at, sizeof(v));
    return v;
}

static int read_count(const struct reader *r, const struct option *o, const config_setting_t *s,
                      void *base) {
    if (!is_integer(s)) {
        return fail_type(r, s, "a whole number");
    }
    int64_t v = config_setting_get_int64(s);
    if (v < o->min || v > o->max) {
        return config_fail(r, s, "%" PRId64 " is out of range: %" PRId64 " to %" PRId64, v, o->min,
                           o->max);
    }
    store(o, base, (uint64_t)v);
    return 0;
}

static int read_size(const struct reader *r, const struct option *o, const config_setting_t *s,
                     void *base) {
    char low[24], high[24];
    uint64_t v;
    if (is_integer(s) && config_setting_get_int64(s) >= 0) {
        return config_fail(r, s, "a size is a string with a unit: write %s = \"%s\"", o->name,
                           size_spell(low, (uint64_t)config_setting_get_int64(s)));
    }
    if (!is_string(s)) {
        return fail_type(r, s, "a size, a string with a unit such as \"256M\"");
    }
    const char *text = config_setting_get_string(s);
    int k = num_size(text, &v);
    if (k == -EINVAL) {
        return config_fail(r, s,
                           "\"%.40s\" is not a size: write a whole number with a unit K, M, G or "
                           "T, as in \"256M\"",
                           text);
    }
    if (k || v < (uint64_t)o->min || v > (uint64_t)o->max) {
        return config_fail(r, s, "\"%.40s\" is out of range: \"%s\" to \"%s\"", text,
                           size_spell(low, (uint64_t)o->min), size_spell(high, (uint64_t)o->max));
    }
    store(o, base, v);
    return 0;
}

static int read_seconds(const struct reader *r, const struct option *o, const config_setting_t *s,
                        void *base) {
    char low[24], high[24];
    if (!is_integer(s) && config_setting_type(s) != CONFIG_TYPE_FLOAT) {
        return fail_type(r, s, "a number of seconds, such as 30 or 0.5");
    }
    double v = is_integer(s) ? (double)config_setting_get_int64(s) : config_setting_get_float(s);
    double ms = v * 1000 + 0.5;
    if (!(v >= 0 && ms < (double)o->max + 1 && (uint64_t)ms >= (uint64_t)o->min)) {
        return config_fail(r, s, "%g is out of range: %s to %s seconds", v,
                           seconds_spell(low, (uint64_t)o->min),
                           seconds_spell(high, (uint64_t)o->max));
    }
    /* a limit that somebody set must not round to 0, which means none */
    store(o, base, v > 0 && ms < 1 ? 1 : (uint64_t)ms);
    return 0;
}

static int read_mode(const struct reader *r, const struct option *o, const config_setting_t *s,
                     void *base) {
    const char *text = is_string(s) ? config_setting_get_string(s) : "";
    size_t n = strlen(text);
    if (n < 3 || n > 4 || strspn(text, "01234567") != n || strtol(text, NULL, 8) > o->max) {
        return config_fail(r, s,
                           "expected permissions as a string of octal digits, \"0000\" to "
                           "\"0777\", such as \"0660\"");
    }
    store(o, base, (uint64_t)strtol(text, NULL, 8));
    return 0;
}

static int read_one_of(const struct reader *r, const struct option *o, const config_setting_t *s,
                       void *base) {
    char expected[128] = "";
    unsigned n = one_of[o->type].n;
    for (unsigned i = 0; i < n; i++) {
        const char *name = one_of[o->type].names[i];
        size_t len = strlen(expected);
        if (is_word(s, name)) {
            store(o, base, i);
            return 0;
        }
        snprintf(expected + len, sizeof(expected) - len, "%s\"%s\"",
                 i == 0      ? ""
                 : i + 1 < n ? ", "
                             : " or ",
                 name);
    }
    return config_fail(r, s, "expected %s", expected);
}

static const struct {
    const char *name;
    int number;
} signals[] = {{"none", 0},       {"TERM", SIGTERM}, {"INT", SIGINT},
               {"HUP", SIGHUP},   {"QUIT", SIGQUIT}, {"USR1", SIGUSR1},
               {"USR2", SIGUSR2}, {"ALRM", SIGALRM}, {"XCPU", SIGXCPU}};

static int read_signal(const struct reader *r, const struct option *o, const config_setting_t *s,
                       void *base) {
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
        if (is_word(s, signals[i].name)) {
            store(o, base, (uint64_t)signals[i].number);
            return 0;
        }
    }
    return config_fail(r, s,
                       "expected \"none\" or the name of a signal: \"TERM\", \"INT\", \"HUP\", "
                       "\"QUIT\", \"USR1\", \"USR2\", \"ALRM\" or \"XCPU\"");
}

static void print_signal(uint64_t number, FILE *f) {
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
        if ((uint64_t)signals[i].number == number) {
            fprintf(f, "\"%s\"", signals[i].name);
        }
    }
}

static int read_bool(const struct reader *r, const struct option *o, const config_setting_t *s,
                     void *base) {
    if (config_setting_type(s) != CONFIG_TYPE_BOOL) {
        return fail_type(r, s, "true or false");
    }
    store(o, base, config_setting_get_bool(s) != 0);
    return 0;
}

static int read_workers(const struct reader *r, const struct option *o, const config_setting_t *s,
                        void *base) {
    if (is_word(s, "auto")) {
        unsigned cpus = cpu_available();
        store(o, base, cpus < (unsigned)o->max ? cpus : (uint64_t)o->max);
        return 0;
    }
    return is_integer(s) ? read_count(r, o, s, base)
                         : fail_type(r, s, "a whole number, or \"auto\" for the number of CPUs");
}

static int read_count_inherit(const struct reader *r, const struct option *o,
                              const config_setting_t *s, void *base) {
    if (is_word(s, "inherit")) {
        store(o, base, CONFIG_INHERIT);
        return 0;
    }
    return is_integer(s) ? read_count(r, o, s, base)
                         : fail_type(r, s, "a whole number, or \"inherit\" for the daemon's own");
}

static int read_size_inherit(const struct reader *r, const struct option *o,
                             const config_setting_t *s, void *base) {
    if (is_word(s, "inherit")) {
        store(o, base, CONFIG_INHERIT);
        return 0;
    }
    return read_size(r, o, s, base);
}

/* ---- strings ---- */

int config_set_string(char **at, const char *text) {
    char *copy = strdup(text);
    if (!copy) {
        return -ENOMEM;
    }
    free(*at);
    *at = copy;
    return 0;
}

static int store_string(const struct option *o, void *base, const char *text) {
    return config_set_string((char **)(void *)((char *)base + o->offset), text);
}

static int read_socket(const struct reader *r, const struct option *o, const config_setting_t *s,
                       void *base) {
    const char *text = is_string(s) ? config_setting_get_string(s) : "";
    if (*text != '/') {
        return config_fail(r, s, "expected an absolute path, such as %s", o->fallback);
    }
    if (strlen(text) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return config_fail(r, s, "the path of a socket has at most %zu bytes, this one has %zu",
                           sizeof(((struct sockaddr_un *)0)->sun_path) - 1, strlen(text));
    }
    return store_string(o, base, text);
}

/* Empty: in the directory that the service manager names, if it does. */
static int read_database(const struct reader *r, const struct option *o, const config_setting_t *s,
                         void *base) {
    const char *text = is_string(s) ? config_setting_get_string(s) : "?",
               *dir = getenv("STATE_DIRECTORY");
    char path[PATH_MAX];
    if (*text == '\0' && dir && *dir == '/' && !strchr(dir, ':')) {
        snprintf(path, sizeof(path), "%s/hearth.db", dir);
        text = path;
    }
    if (*text != '/' && *text != '\0') {
        return config_fail(r, s, "expected an absolute path");
    }
    return store_string(o, base, text);
}

static int read_place(const struct reader *r, const struct option *o, const config_setting_t *s,
                      void *base) {
    const char *text = is_string(s) ? config_setting_get_string(s) : "";
    if (*text != '/' && strcmp(text, "auto") != 0 && strcmp(text, "none") != 0) {
        return config_fail(r, s, "expected \"auto\", \"none\", or an absolute path");
    }
    return store_string(o, base, text);
}

static int read_user(const struct reader *r, const struct option *o, const config_setting_t *s,
                     void *base) {
    bool user = o->type == TYPE_USER;
    uint64_t id;
    if (!is_string(s)) {
        return fail_type(r, s,
                         user ? "a user's name or number, as a string"
                              : "a group's name or number, as a string");
    }
    const char *text = config_setting_get_string(s);
    bool known = !*text || (num_u64(text, strlen(text), &id) == 0 && id < UINT32_MAX) ||
                 (user ? getpwnam(text) != NULL : getgrnam(text) != NULL);
    if (!known) {
        return config_fail(r, s, "there is no %s \"%.40s\"", user ? "user" : "group", text);
    }
    return store_string(o, base, text);
}

static int read_name(const struct reader *r, const struct option *o, const config_setting_t *s,
                     void *base) {
    const char *text = is_string(s) ? config_setting_get_string(s) : "";
    size_t n = strlen(text);
    if (n == 0 || n > CONFIG_POOL_NAME_MAX ||
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") != n) {
        return config_fail(r, s,
                           "a pool's name is a string of 1 to %d characters of a-z, 0-9, _ "
                           "and -",
                           CONFIG_POOL_NAME_MAX);
    }
    return store_string(o, base, text);
}

static int read_directory(const struct reader *r, const struct option *o, const config_setting_t *s,
                          void *base) {
    const char *text = is_string(s) ? config_setting_get_string(s) : "";
    struct stat st;
    if (*text != '/') {
        return config_fail(r, s, "expected the absolute path of a directory");
    }
    int k = stat(text, &st) < 0 ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
    return k ? config_fail(r, s, "\"%.200s\": %s", text, strerror(k)) : store_string(o, base, text);
}

/* Is the file one that can be loaded (how = R_OK) or run (X_OK)? 0 or -errno. */
static int usable(const char *path, int how) {
    struct stat st;
    if (stat(path, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return S_ISDIR(st.st_mode) ? -EISDIR : -EACCES;
    }
    return access(path, how) < 0 ? -errno : 0;
}

/* Looks for a bare name in colon-separated directories; 0 and the path in out, or -ENOENT. */
static int search(const char *dirs, const char *name, int how, char out[PATH_MAX]) {
    while (*dirs) {
        size_t n = strcspn(dirs, ":");
        if (n && snprintf(out, PATH_MAX, "%.*s/%s", (int)n, dirs, name) < PATH_MAX &&
            usable(out, how) == 0) {
            return 0;
        }
        dirs += n + (dirs[n] == ':');
    }
    return -ENOENT;
}

static int read_module(const struct reader *r, const struct option *o, const config_setting_t *s,
                       void *base) {
    const char *text = is_string(s) ? config_setting_get_string(s) : "";
    char path[PATH_MAX];
    if (*text == '/') {
        int k = usable(text, R_OK);
        return k ? config_fail(r, s, "module \"%.200s\": %s", text, strerror(-k))
                 : store_string(o, base, text);
    }
    if (!*text || strchr(text, '/')) {
        return config_fail(r, s,
                           "expected a shared object: an absolute path, or a file name without / "
                           "in the module directory, such as \"text.so\"");
    }
    const char *dirs = getenv("HEARTH_MODULE_PATH");
    if (!dirs || !*dirs) {
        dirs = HEARTH_MODULE_DIR;
    }
    if (search(dirs, text, R_OK, path)) {
        return config_fail(r, s, "there is no readable module \"%.80s\" in %.300s", text, dirs);
    }
    /* a relative HEARTH_MODULE_PATH must not depend on where the workers run */
    _cleanup_free_ char *absolute = realpath(path, NULL);
    return absolute ? store_string(o, base, absolute)
                    : config_fail(r, s, "module \"%.200s\": %s", path, strerror(errno));
}

/* ---- lists of strings ---- */

static void strings_free(struct config_strings *l) {
    for (uint32_t i = 0; l->v && i < l->n; i++) {
        free(l->v[i]);
    }
    free(l->v);
    *l = (struct config_strings){0};
}

static int check_env(const struct reader *r, const config_setting_t *s, const char *text) {
    size_t n = strcspn(text, "=");
    bool ok = n > 0 && text[n] == '=' && !isdigit((unsigned char)text[0]);
    for (size_t i = 0; i < n; i++) {
        ok = ok && (isalnum((unsigned char)text[i]) || text[i] == '_');
    }
    return ok ? 0 : config_fail(r, s, "expected \"NAME=value\"");
}

/* A user, or with an @ before it a group, by name or number; or everybody. */
static int check_user(const struct reader *r, const config_setting_t *s, const char *text) {
    bool group = *text == '@';
    uint64_t id;
    const char *name = text + group;
    bool known = strcmp(text, "*") == 0 ||
                 (num_u64(name, strlen(name), &id) == 0 && id < UINT32_MAX) ||
                 (group ? getgrnam(name) != NULL : getpwnam(name) != NULL);
    return known ? 0
                 : config_fail(r, s, "there is no %s \"%.40s\"%s", group ? "group" : "user", name,
                               group ? "" : "; a group is written with an @ before it");
}

/* "user:weight" */
static int check_weight(const struct reader *r, const config_setting_t *s, const char *text) {
    const char *colon = strrchr(text, ':');
    uint64_t weight;
    if (!colon || num_u64(colon + 1, strlen(colon + 1), &weight) < 0 || weight < 1 ||
        weight > WEIGHT_MAX) {
        return config_fail(r, s, "expected \"user:weight\", a weight from 1 to %d", WEIGHT_MAX);
    }
    _cleanup_free_ char *name = strndup(text, (size_t)(colon - text));
    if (!name) {
        return -ENOMEM;
    }
    if (*name == '@' || *name == '*') {
        return config_fail(r, s, "expected a user, not \"%.40s\"", name);
    }
    return check_user(r, s, name);
}

static int check_path(const struct reader *r, const config_setting_t *s, const char *text) {
    return *text == '/' ? 0 : config_fail(r, s, "expected an absolute path");
}

/* The command must be there: better said now than by each task. What follows it is anything. */
static int check_command(const struct reader *r, const config_setting_t *s, const char *text) {
    char path[PATH_MAX];
    int k = 0;
    if (config_setting_index(s) > 0) {
        return 0;
    }
    if (*text == '/') {
        k = usable(text, X_OK);
    } else if (!*text || strchr(text, '/')) {
        return config_fail(r, s,
                           "expected a command: an absolute path, or a name without / that "
                           "is looked up in $PATH");
    } else {
        const char *dirs = getenv("PATH");
        k = search(dirs ? dirs : "/usr/bin:/bin", text, X_OK, path);
    }
    return k ? config_fail(r, s, "command \"%.200s\": %s", text, strerror(-k)) : 0;
}

static int (*const checks[TYPES])(const struct reader *r, const config_setting_t *s,
                                  const char *text) = {
    [TYPE_COMMAND] = check_command, [TYPE_ENV] = check_env,    [TYPE_PATHS] = check_path,
    [TYPE_WEIGHTS] = check_weight,  [TYPE_USERS] = check_user,
};

static int check_word(const struct reader *r, const struct option *o, const config_setting_t *s) {
    if (!is_string(s)) {
        return fail_type(r, s, "a string");
    }
    return checks[o->type] ? checks[o->type](r, s, config_setting_get_string(s)) : 0;
}

static int read_words(const struct reader *r, const struct option *o, const config_setting_t *s,
                      void *base) {
    if (!config_setting_is_array(s) && !config_setting_is_list(s)) {
        return is_string(s) ? config_fail(r, s,
                                          "expected a list of words, such as %s = [ \"a\", \"b c\" "
                                          "]: no shell splits a string",
                                          o->name)
                            : fail_type(r, s, "a list of strings, such as [ \"a\", \"b c\" ]");
    }
    unsigned n = (unsigned)config_setting_length(s);
    _cleanup_(strings_free) struct config_strings l = {.v = calloc(n + 1, sizeof(char *))};
    if (!l.v) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < n; i++) {
        const config_setting_t *e = config_setting_get_elem(s, i);
        int k = check_word(r, o, e);
        if (k) {
            return k;
        }
        l.v[i] = strdup(config_setting_get_string(e));
        if (!l.v[i]) {
            return -ENOMEM;
        }
        l.n++;
    }
    struct config_strings *field = (void *)((char *)base + o->offset);
    strings_free(field);
    *field = l;
    l = (struct config_strings){0};
    return 0;
}

/* ---- by type ---- */

typedef int read_fn(const struct reader *r, const struct option *o, const config_setting_t *s,
                    void *base);

static read_fn *const readers[TYPES] = {
    [TYPE_SOCKET] = read_socket,     [TYPE_PLACE] = read_place,
    [TYPE_DATABASE] = read_database, [TYPE_MODE] = read_mode,
    [TYPE_USER] = read_user,         [TYPE_GROUP] = read_user,
    [TYPE_SIZE] = read_size,         [TYPE_SIZE_INHERIT] = read_size_inherit,
    [TYPE_COUNT] = read_count,       [TYPE_COUNT_INHERIT] = read_count_inherit,
    [TYPE_NUMBER] = read_count,      [TYPE_SECONDS] = read_seconds,
    [TYPE_LEVEL] = read_one_of,      [TYPE_NAME] = read_name,
    [TYPE_WORKERS] = read_workers,   [TYPE_MODULE] = read_module,
    [TYPE_SIZING] = read_one_of,     [TYPE_DIRECTORY] = read_directory,
    [TYPE_WORDS] = read_words,       [TYPE_COMMAND] = read_words,
    [TYPE_ENV] = read_words,         [TYPE_PATHS] = read_words,
    [TYPE_WEIGHTS] = read_words,     [TYPE_USERS] = read_words,
    [TYPE_BOOL] = read_bool,         [TYPE_OVERFLOW] = read_one_of,
    [TYPE_RESTART] = read_one_of,    [TYPE_SECCOMP] = read_one_of,
    [TYPE_HANDOVER] = read_one_of,   [TYPE_SIGNAL] = read_signal,
};

int config_value_read(const struct reader *r, const struct option *o, const config_setting_t *s,
                      void *base) {
    return readers[o->type](r, o, s, base);
}

static void print_string(FILE *f, const char *text) {
    fputc('"', f);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\') {
            fprintf(f, "\\%c", *p);
        } else if (*p < 0x20 || *p == 0x7f) {
            fprintf(f, "\\x%02x", *p);
        } else {
            fputc(*p, f);
        }
    }
    fputc('"', f);
}

static void print_number(FILE *f, int64_t v) {
    fprintf(f, "%" PRId64 "%s", v, v > INT32_MAX || v < INT32_MIN ? "L" : "");
}

static void print_words(FILE *f, const struct config_strings *l) {
    fputs("[", f);
    for (uint32_t i = 0; i < l->n; i++) {
        fputs(i ? ", " : " ", f);
        print_string(f, l->v[i]);
    }
    fputs(" ]", f);
}

void config_value_print(const struct option *o, const void *base, FILE *f) {
    const void *at = (const char *)base + o->offset;
    char spelt[24];
    if (one_of[o->type].names) {
        fprintf(f, "\"%s\"", one_of[o->type].names[fetch(o, base)]);
        return;
    }
    if (is_list(o->type)) {
        print_words(f, at);
        return;
    }
    switch (o->type) {
    case TYPE_SIZE_INHERIT:
    case TYPE_COUNT_INHERIT:
        if (fetch(o, base) == CONFIG_INHERIT) {
            fputs("\"inherit\"", f);
        } else if (o->type == TYPE_COUNT_INHERIT) {
            print_number(f, (int64_t)fetch(o, base));
        } else {
            fprintf(f, "\"%s\"", size_spell(spelt, fetch(o, base)));
        }
        return;
    case TYPE_SIZE:
        fprintf(f, "\"%s\"", size_spell(spelt, fetch(o, base)));
        return;
    case TYPE_COUNT:
    case TYPE_WORKERS:
        print_number(f, (int64_t)fetch(o, base));
        return;
    case TYPE_BOOL:
        fputs(fetch(o, base) ? "true" : "false", f);
        return;
    case TYPE_NUMBER:
        print_number(f, (int32_t)fetch(o, base));
        return;
    case TYPE_SECONDS:
        fputs(seconds_spell(spelt, fetch(o, base)), f);
        return;
    case TYPE_MODE:
        fprintf(f, "\"%04o\"", (unsigned)fetch(o, base));
        return;
    case TYPE_SIGNAL:
        print_signal(fetch(o, base), f);
        return;
    default:
        print_string(f, *(char *const *)at);
        return;
    }
}

void config_value_show(const struct option *o, const void *base, FILE *f) {
    if (one_of[o->type].names) {
        fputs(one_of[o->type].names[fetch(o, base)], f);
        return;
    }
    if (is_text(o->type)) {
        fputs(*(char *const *)((const char *)base + o->offset), f);
        return;
    }
    switch (o->type) {
    case TYPE_SIZE_INHERIT:
    case TYPE_COUNT_INHERIT:
        if (fetch(o, base) == CONFIG_INHERIT) {
            fputs("inherit", f);
            return;
        }
        fprintf(f, "%" PRIu64, fetch(o, base));
        return;
    case TYPE_SIZE:
    case TYPE_COUNT:
    case TYPE_WORKERS:
        fprintf(f, "%" PRIu64, fetch(o, base));
        return;
    case TYPE_SECONDS:
        fprintf(f, "%.3f", (double)fetch(o, base) / 1000.0);
        return;
    case TYPE_MODE:
        fprintf(f, "%04o", (unsigned)fetch(o, base));
        return;
    default:
        config_value_print(o, base, f);
        return;
    }
}

/* One word a place: [ "a", "b" ]. */
static void quote_words(FILE *f, const char *text) {
    fputs("[", f);
    for (bool first = true; *(text += strspn(text, " ")); first = false) {
        char word[PATH_MAX];
        size_t n = strcspn(text, " ");
        snprintf(word, sizeof(word), "%.*s", (int)(n < PATH_MAX ? n : PATH_MAX - 1), text);
        fputs(first ? " " : ", ", f);
        print_string(f, word);
        text += n;
    }
    fputs(" ]", f);
}

static bool is_number(enum option_type type) {
    return type == TYPE_COUNT || type == TYPE_NUMBER || type == TYPE_SECONDS ||
           type == TYPE_WORKERS || type == TYPE_COUNT_INHERIT;
}

char *config_value_quote(const struct option *o, const char *text) {
    char *out = NULL;
    size_t n;
    FILE *f = open_memstream(&out, &n);
    if (!f) {
        return NULL;
    }
    bool number = *text && strspn(text, "+-.0123456789") == strlen(text);
    if (is_list(o->type)) {
        if (*text == '[' || *text == '(') {
            fputs(text, f);
        } else {
            quote_words(f, text);
        }
    } else if (is_number(o->type) && number) { /* libconfig would cut a large one */
        bool whole = !strchr(text, '.');
        fprintf(f, "%s%s", text, whole && strlen(text) > 9 ? "L" : "");
    } else if (!is_number(o->type) && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        fputs(text, f);
    } else {
        print_string(f, text);
    }
    if (fclose(f) != 0) {
        free(out);
        return NULL;
    }
    return out;
}

static int copy_words(const struct config_strings *from, struct config_strings *to) {
    _cleanup_(strings_free) struct config_strings l = {.v = calloc(from->n + 1, sizeof(char *))};
    for (; l.v && l.n < from->n; l.n++) {
        l.v[l.n] = strdup(from->v[l.n]);
        if (!l.v[l.n]) {
            return -ENOMEM;
        }
    }
    if (!l.v) {
        return -ENOMEM;
    }
    strings_free(to);
    *to = l;
    l = (struct config_strings){0};
    return 0;
}

int config_value_copy(const struct option *o, const void *from, void *to) {
    const void *a = (const char *)from + o->offset;
    void *b = (char *)to + o->offset;
    if (is_text(o->type)) {
        return *(char *const *)a ? config_set_string(b, *(char *const *)a) : 0;
    }
    if (is_list(o->type)) {
        return copy_words(a, b);
    }
    memcpy(b, a, o->size);
    return 0;
}

void config_value_free(const struct option *o, void *base) {
    void *at = (char *)base + o->offset;
    if (is_text(o->type)) {
        free(*(char **)at);
        *(char **)at = NULL;
    } else if (is_list(o->type)) {
        strings_free(at);
    }
}
