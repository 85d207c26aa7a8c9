/* SPDX-License-Identifier: MIT */
/* The benchmark `tasks`: Hearth itself, measured through its client library against a daemon of
 * its own, each figure beside the raw limit taken in the same run, and beside the goal.
 *
 * Times depend on what else the machine does, so that the ratios are what counts. With arguments
 * only the parts named run: trips, stream, exec, program, start, queue, plans, process.
 *
 * Fails: exit status 1 when something does not work. A goal not met is no failure. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/bench.h"
#include "tests/bench/tasks.h"
#include "tests/support/child.h"

static const struct {
    const char *name;
    int (*run)(void);
} parts[] = {{"trips", tasks_trips},     {"stream", tasks_stream},  {"exec", tasks_exec},
             {"program", tasks_program}, {"start", tasks_start},    {"queue", tasks_queue},
             {"plans", tasks_plans},     {"process", tasks_process}};

static bool is_wanted(const char *name, int argc, char **argv) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; i++) {
        wanted |= strcmp(argv[i], name) == 0;
    }
    return wanted;
}

int main(int argc, char **argv) {
    int r = bench_pin(false);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && r == 0; i++) {
        if (is_wanted(parts[i].name, argc, argv)) {
            r = parts[i].run();
        }
    }
    child_kill_all();
    return r ? 1 : 0;
}
