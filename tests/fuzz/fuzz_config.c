/* SPDX-License-Identifier: MIT */
/* Any bytes as a configuration: refused with an error that says something, or accepted; what is
 * accepted prints as text that is accepted too. Commands and modules are looked up where nothing
 * is, so that the outcome depends on the bytes only. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libconfig 1.5 loses the string it was reading when it meets an error. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void) {
    return "leak:libconfig\n";
}

static void check_printed(const struct config *c) {
    struct config *again = NULL;
    struct config_error err;
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) {
        return;
    }
    config_print(c, f);
    fclose(f);
    if (config_load_text(text, n, "printed", &again, &err)) {
        fprintf(stderr, "%u: %s: %s\n%s", err.line, err.key, err.text, text);
        abort();
    }
    config_free(again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config *c = NULL;
    struct config_error err;
    setenv("HEARTH_MODULE_PATH", "/nonexistent", 1);
    int r = config_load_text((const char *)data, size, "input", &c, &err);
    if (r) {
        if (!err.text[0] || c) {
            abort();
        }
    } else {
        check_printed(c);
        config_free(c);
    }
    return 0;
}
