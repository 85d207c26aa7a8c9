/* SPDX-License-Identifier: MIT */
/* array: typed arrays from the shell. Each verb is a command of the protocol with the array's name and the words behind it.
 *
 * Fails: exit statuses. */
#include "client/ctl/ctl.h"

static int array_add(struct ctl *c, struct ctl_words *w) {
    if (w->n == 2 && !object_insert(c, w, 2, "1")) {
        return CTL_LOCAL;
    }
    return object_insert(c, w, 0, "ARRAY.ADD") ? object_send(c, w, CTL_SHOW_VALUE) : CTL_LOCAL;
}

static int array_range(struct ctl *c, struct ctl_words *w) {
    if ((w->n == 1 && !object_insert(c, w, 1, "0")) ||
        (w->n == 2 && !object_insert(c, w, 2, "-1"))) {
        return CTL_LOCAL;
    }
    return object_insert(c, w, 0, "ARRAY.RANGE") ? object_send(c, w, CTL_SHOW_LINES) : CTL_LOCAL;
}

const struct ctl_verb ctl_array_verbs[] = {
    {"create", "TYPE N",
     "make one of N zeroes: int8 to int64, uint8 to uint64, float, double, char", 2, 2,
     "ARRAY.CREATE", CTL_SHOW_NOTHING, NULL},
    {"get", "INDEX", "print an element", 1, 1, "ARRAY.GET", CTL_SHOW_VALUE, NULL},
    {"set", "INDEX VALUE...", "set elements from INDEX on", 2, -1, "ARRAY.SET", CTL_SHOW_NOTHING,
     NULL},
    {"add", "INDEX [BY]", "add (1) to an element; print the sum", 1, 2, NULL, CTL_SHOW_VALUE,
     array_add},
    {"cas", "INDEX OLD NEW", "set an element to NEW if it is OLD; print yes or no", 3, 3,
     "ARRAY.CAS", CTL_SHOW_YES, NULL},
    {"fill", "FROM COUNT VALUE", "set elements to one value", 3, 3, "ARRAY.FILL", CTL_SHOW_NOTHING,
     NULL},
    {"range", "[FROM [COUNT]]", "print elements", 0, 2, NULL, CTL_SHOW_LINES, array_range},
    {"info", "", "print type, length, and by how many it is pinned", 0, 0, "ARRAY.INFO",
     CTL_SHOW_PAIRS, NULL},
    {0},
};
