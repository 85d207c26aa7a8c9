/* SPDX-License-Identifier: MIT */
/* Ten processes that write into one dict and one list. There is one of each, in shared memory, whoever changes them: no process asks
 * another, and nothing is copied back.
 *
 * Fails: exit status 1, after saying why. */
#include <hearth.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tutorial.h"

static struct hearth_bytes named(const char *prefix, const char *name, char buf[64]) {
    struct hearth_bytes b;
    hearth_manager_name(prefix, hearth_text(name), buf, 64, &b);
    return b;
}

/* def child(d, l, i): d[i] = i * i; l.append(i) */
static int child(const char *prefix, const char *number) {
    struct hearth *h = tutorial_connect();
    char buf[64], square[16];
    int i = atoi(number);
    snprintf(square, sizeof(square), "%d", i * i);
    tutorial_check(h,
                   hearth_dict_set(h, named(prefix, "dict", buf), hearth_text(number),
                                   hearth_text(square), NULL),
                   "dict");
    struct hearth_bytes element = hearth_text(number);
    tutorial_check(h,
                   hearth_list_push(h, named(prefix, "list", buf), HEARTH_RIGHT, &element, 1, NULL),
                   "list");
    hearth_close(h);
    return 0;
}

/* print(sorted(d.items())); print(sorted(l)) */
static void show(struct hearth *h, const char *prefix) {
    const struct hearth_bytes *elements;
    struct hearth_bytes square;
    char buf[64], number[16];
    size_t n;
    printf("dict:");
    for (int i = 0; i < 10; i++) {
        snprintf(number, sizeof(number), "%d", i);
        tutorial_check(
            h, hearth_dict_get(h, named(prefix, "dict", buf), hearth_text(number), &square), "get");
        printf(" %d=%s", i, (const char *)square.data);
    }
    struct hearth_bytes list = named(prefix, "list", buf);
    tutorial_check(h, hearth_list_sort(h, list, 0), "sort");
    tutorial_check(h, hearth_list_range(h, list, 0, -1, &elements, &n), "range");
    printf("\nlist:");
    for (size_t i = 0; i < n; i++) {
        printf(" %s", (const char *)elements[i].data);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    char prefix[HEARTH_PREFIX_MAX + 1], number[16];
    struct child processes[10];
    if (argc > 3 && strcmp(argv[1], "child") == 0) {
        return child(argv[2], argv[3]);
    }
    struct hearth *h = tutorial_connect();
    tutorial_check(h, hearth_manager_open(h, prefix), "manager"); /* with Manager() as m: */
    for (int i = 0; i < 10; i++) {
        snprintf(number, sizeof(number), "%d", i);
        processes[i] = tutorial_start(h, prefix, number);
    }
    for (int i = 0; i < 10; i++) {
        tutorial_join(h, &processes[i]);
    }
    show(h, prefix);
    hearth_close(h); /* and with it go the dict and the list */
    return 0;
}
