/* SPDX-License-Identifier: MIT */
/* What the command line of hearth-worker says: read once in main.c, constant from then on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { THREADS_MAX = 64 };

struct options {
    const char *pool;   /* its name */
    uint32_t index;     /* its index in the segment */
    const char *module; /* path of the module; NULL: an exec pool, or a program's */
    bool program;       /* the words after "--" are a worker's command, ... */
    bool prefork;       /* ... and it takes the zygote's place */
    const char *known;  /* "echo,sleep": handlers in the order in which tasks count them; NULL */
    const char *tmp;    /* commands' temporary files lie below it; NULL: where they like */
    bool once; /* no zygote: it runs the one task that is ordered for this slot, and ends */
    uint32_t slot, gen; /* ... */
    int argc;           /* what follows "--": the module's arguments, or the words of the command */
    char **argv;        /* ends with NULL */
    uint32_t threads;   /* tasks a worker runs at once; 1 to THREADS_MAX */
    uint64_t max_growth;       /* private memory since it was warm, at which it is; 0: no limit */
    uint64_t max_tasks_jitter; /* up to so many more, at random */
    uint64_t max_tasks;        /* tasks a worker runs before it is replaced; 0: no limit */
    uint64_t max_output;       /* largest output of a task in bytes */
};
