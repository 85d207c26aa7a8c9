/* SPDX-License-Identifier: MIT */
/* A schedule as one line of text: "NAME: WHEN HANDLER [ARG...]", where WHEN is an expression (daemon/cron.h) or
 * "every 5m", and words are separated by blanks, or stand between \'\'. */
#pragma once

#include "daemon/cron.h"

enum { CRONTAB_NAME = 64 };

struct crontab_line {
    char name[CRONTAB_NAME + 1];
    char when[CRON_ERROR];
    struct cron cron;
    uint64_t every_ms; /* 0: cron counts */
    char *text;        /* holds the words, NUL-terminated each */
    char **words;      /* the handler and its arguments */
    uint32_t n_words;
};

/* 1 to CRONTAB_NAME of a-z, A-Z, 0-9, _ . : and -. */
bool crontab_is_name(const char *name, size_t len);
/* 0 and *ret, for crontab_deinit(); -EINVAL with the reason in ret_error; -ENOMEM. */
int crontab_parse(const char *line, struct crontab_line *ret, char ret_error[CRON_ERROR]);
void crontab_deinit(struct crontab_line *l);
