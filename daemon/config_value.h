/* SPDX-License-Identifier: MIT */
/* One key of the configuration: its line of options.def, and how a value of its type is read,
 * checked, printed and freed. Private to config.c. */
#pragma once

#include <libconfig.h>
#include <stddef.h>

#include "daemon/config.h"

enum option_section {
    SECTION_TOP,
    SECTION_LIMITS,
    SECTION_POOL,
    SECTION_RLIMITS,
    SECTION_PROCESS,
    SECTIONS
};

enum option_type {
    TYPE_SOCKET,
    TYPE_PLACE, /* "auto", "none", or a path */
    TYPE_DATABASE,
    TYPE_MODE,
    TYPE_USER,
    TYPE_GROUP,
    TYPE_SIZE,
    TYPE_SIZE_INHERIT,
    TYPE_COUNT,
    TYPE_COUNT_INHERIT,
    TYPE_NUMBER,
    TYPE_SECONDS,
    TYPE_LEVEL,
    TYPE_SIGNAL,
    TYPE_NAME,
    TYPE_WORKERS,
    TYPE_SIZING,
    TYPE_OVERFLOW,
    TYPE_RESTART,
    TYPE_SECCOMP,
    TYPE_HANDOVER,
    TYPE_MODULE,
    TYPE_DIRECTORY,
    TYPE_WORDS,
    TYPE_COMMAND,
    TYPE_ENV,
    TYPE_PATHS,
    TYPE_WEIGHTS,
    TYPE_USERS,
    TYPE_BOOL,
    TYPE_SECTION, /* a group with a section of its own */
    TYPE_POOLS,
    TYPE_PROCESSES,
    TYPE_OVERRIDES,
    TYPES,
};

struct option {
    enum option_section section;
    const char *name;
    enum option_type type;
    enum config_when when;
    size_t offset, size; /* of the field in struct config, config_limits or pool_config */
    const char *fallback;
    int64_t min, max;
    const char *doc;
};

extern const struct option config_options[];
extern const unsigned config_n_options;
extern const char *const config_type_names[TYPES];

/* What is being read. */
struct reader {
    struct config *config;
    struct config_error *err;
    const char *file; /* the file itself, which libconfig does not name, ... */
    const char *dir;  /* ... and where the files it includes are; NULL: none */
};

/* Fills the error with the place of a setting; s NULL: the file as a whole. Always -EINVAL. */
int config_fail(const struct reader *r, const config_setting_t *s, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The file a setting stands in, into out. */
void config_setting_place(const struct reader *r, const config_setting_t *s, char out[PATH_MAX]);

/* Reads and checks one value into its field of base; what was there is freed. 0, -EINVAL (error
 * filled), -ENOMEM. */
int config_value_read(const struct reader *r, const struct option *o, const config_setting_t *s,
                      void *base);
/* Prints the field as one writes it. */
void config_value_print(const struct option *o, const void *base, FILE *f);
/* The same without quotes, and in bytes: as Redis shows its parameters. */
void config_value_show(const struct option *o, const void *base, FILE *f);
/* A value in the words of CONFIG SET, as one writes it in a file. NULL: no memory. */
char *config_value_quote(const struct option *o, const char *text);
/* Makes the field of `to` what it is in `from`. 0 or -ENOMEM. */
int config_value_copy(const struct option *o, const void *from, void *to);
void config_value_free(const struct option *o, void *base);

/* ---- config.c, for config_change.c ---- */
#define CONFIG_REWRITE_NAME "config-rewrite.conf"
/* Is the key one for pools of its kind and sizing? */
bool config_pool_has(const struct pool_config *p, const struct option *o);
/* Adds a change; both are copied. 0 or -ENOMEM. */
int config_edits_add(struct config_edits *e, const char *key, const char *value);
void config_print_with(const struct config *c, const struct config_edits *e, FILE *f);
void config_print_process(const struct process_config *p, FILE *f);
/* As config_load(), without the file that CONFIG REWRITE writes, or with another in its place. */
int config_load_but(const char *path, const char *instead, struct config **ret,
                    struct config_error *err);

/* Replaces *at by a copy of text. */
int config_set_string(char **at, const char *text);
