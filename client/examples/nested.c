/* SPDX-License-Identifier: MIT */
/* Containers in containers, in the scope of a manager: a dict of dicts that workers and this client change alike. What a
 * container holds is the name of another one, so there is one inner dict, whoever changes it (multiprocessing hands out
 * copies here, and loses what is changed in them). At the end all of it goes with the manager.
 *
 *     nested TEXT...
 *
 * Fails: exit status 1, after saying why. */
#include <hearth.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(struct hearth *h, int r, const char *what) {
    if (r != 0) {
        fprintf(stderr, "%s: %s %s\n", what, hearth_strerror(r), hearth_errmsg(h));
        exit(1);
    }
}

/* A worker adds the words of the text to the dict of this name; the handler `count` of the sample pool `text`. */
static void count_words(struct hearth *h, const char *text, struct hearth_bytes into) {
    const char *args[] = {into.data};
    const size_t lens[] = {into.len};
    struct hearth_task task = {.pool = "text",
                               .handler = "count",
                               .payload = text,
                               .payload_len = strlen(text),
                               .args = args,
                               .arg_lens = lens,
                               .n_args = 1};
    struct hearth_result r;
    check(h, hearth_call(h, &task, &r), "count");
    check(h, r.status == HEARTH_DONE ? 0 : -1, r.cause);
}

int main(int argc, char **argv) {
    struct hearth *h;
    char prefix[HEARTH_PREFIX_MAX + 1], outer_buf[64], inner_buf[64];
    struct hearth_bytes outer, inner = hearth_text("");
    int r = hearth_connect(NULL, &h);
    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n", hearth_strerror(r));
        return 1;
    }
    /* with Manager() as m: outer = m.dict() */
    check(h, hearth_manager_open(h, prefix), "open");
    hearth_manager_name(prefix, hearth_text("texts"), outer_buf, sizeof(outer_buf), &outer);
    for (int i = 1; i < argc; i++) {
        /* outer[i] = m.dict(); a worker fills it, and so do we */
        char field[32];
        snprintf(field, sizeof(field), "texts:%d", i);
        hearth_manager_name(prefix, hearth_text(field), inner_buf, sizeof(inner_buf), &inner);
        check(h, hearth_dict_set(h, outer, hearth_text(field), inner, NULL), "set");
        count_words(h, argv[i], inner);
    }
    for (int i = 1; i < argc; i++) {
        /* outer[i]["seen"] += 1: the name leads to the one dict that the worker has filled */
        char field[32];
        int64_t n;
        uint64_t words;
        snprintf(field, sizeof(field), "texts:%d", i);
        check(h, hearth_dict_get(h, outer, hearth_text(field), &inner), "get");
        snprintf(inner_buf, sizeof(inner_buf), "%s", (const char *)inner.data);
        inner = hearth_text(inner_buf);
        check(h, hearth_dict_add(h, inner, hearth_text("seen"), 1, &n), "add");
        check(h, hearth_dict_length(h, inner, &words), "length");
        printf("%s: seen %d, %d words\n", field, (int)n, (int)words - 1);
    }
    /* the end of the with: outer and inner ones are gone, and a worker that comes late makes nothing */
    check(h, hearth_manager_close(h, prefix), "close");
    uint64_t left;
    check(h, hearth_dict_length(h, outer, &left), "length");
    r = hearth_dict_set(h, outer, hearth_text("late"), inner, NULL);
    printf("left: %d; %s\n", (int)left, r == HEARTH_E_ENDED ? "ended" : "NOT ended");
    hearth_close(h);
    return r == HEARTH_E_ENDED ? 0 : 1;
}
