/* SPDX-License-Identifier: MIT */
/* hearth: the command line of Hearth. Finds the command in the table and runs it; sees to it that
 * output which could not be written is not taken for success.
 *
 * Fails: an exit status of enum ctl_exit. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/ctl/ctl.h"

static const struct ctl_command *find(const char *name) {
    for (size_t i = 0; i < ctl_n_commands; i++) {
        if (strcmp(ctl_commands[i].name, name) == 0) {
            return &ctl_commands[i];
        }
    }
    return NULL;
}

static int run(struct ctl *c) {
    if (c->argc > 0 && strcmp(c->argv[0], "--version") == 0) {
        printf("hearth %s\n", HEARTH_VERSION);
        return CTL_OK;
    }
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *name = ctl_operand(c);
    if (!name) {
        ctl_help();
        return CTL_OK;
    }
    const struct ctl_command *command = find(name);
    if (!command) {
        return ctl_usage(c, "there is no command %s", name);
    }
    c->command = command;
    return command->run(c);
}

int main(int argc, char **argv) {
    struct ctl c = {.argc = argc > 0 ? argc - 1 : 0, .argv = argv + 1};
    int status = run(&c);
    hearth_close(c.h);
    if (fclose(stdout) != 0 && status == CTL_OK) {
        status = ctl_say(&c, CTL_LOCAL, "cannot write the output: %s", strerror(errno));
    }
    return status;
}
