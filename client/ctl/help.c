/* SPDX-License-Identifier: MIT */
/* Help, from the tables. `hearth` alone teaches the first steps; `hearth help --names` lists the
 * commands for scripts.
 *
 * Fails: never. */
#include "client/ctl/ctl.h"

#include <stdio.h>
#include <string.h>

void ctl_help(void) {
    printf("hearth - run tasks in warm worker processes through hearthd\n\n"
           "usage: hearth [-s SOCKET] [--json] COMMAND [OPTIONS] ...\n\n");
    for (size_t i = 0; i < ctl_n_commands; i++) {
        printf("  %-8s %-24s %s\n", ctl_commands[i].name, ctl_commands[i].args,
               ctl_commands[i].summary);
    }
    printf(
        "\nFirst steps:\n"
        "  hearth ping                                  is a daemon there?\n"
        "  hearth pools                                 what can it run?\n"
        "  hearth call text.words --in /etc/services    run one task\n"
        "  hearth map text.words /usr/share/common-licenses/*   run many\n"
        "  hearth call shell date                       a command, if there is an exec pool "
        "`shell`\n"
        "  hearth dict hits incr /index.html            count in shared memory\n\n"
        "The socket is SOCKET, else $HEARTH_SOCKET, else %s.\n"
        "`hearth help COMMAND` has options and examples; `hearth help exit` the exit statuses.\n",
        HEARTH_DEFAULT_SOCKET);
}

static void print_options(const struct ctl_option *o) {
    for (; o->name; o++) {
        char left[64], letter[8] = "    ";
        if (o->letter > ' ') {
            snprintf(letter, sizeof(letter), "-%c, ", o->letter);
        }
        snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->arg ? " " : "",
                 o->arg ? o->arg : "");
        printf("  %-20s %s\n", left, o->help);
    }
}

static void print_verbs(const struct ctl_verb *v) {
    printf("\n");
    for (; v->name; v++) {
        char left[64];
        snprintf(left, sizeof(left), "%s %s", v->name, v->args);
        printf("  %-33s %s\n", left, v->help);
    }
}

void ctl_help_command(const struct ctl_command *cmd) {
    printf("usage: hearth %s%s%s%s\n\n%s.\n", cmd->name, cmd->options->name ? " [OPTIONS]" : "",
           cmd->args[0] ? " " : "", cmd->args, cmd->summary);
    if (cmd->text[0]) {
        printf("%s", cmd->text);
    }
    if (cmd->verbs) {
        print_verbs(cmd->verbs);
    }
    printf("\n");
    print_options(cmd->options);
    print_options(ctl_common_options);
}

static void help_exit(void) {
    printf("  0  all went well\n"
           "  1  the handler failed (or, with several tasks, they ended in different ways)\n"
           "  2  wrong words on the command line\n"
           "  3  lost: the worker died\n"
           "  4  timeout: the task ran for too long\n"
           "  5  cancelled, or the daemon stopped\n"
           "  6  refused: the queue or memory is full, no such pool or handler, an error reply\n"
           "  7  no connection to the daemon\n"
           "  8  no such task, name, field or element\n"
           "  9  not ended yet, or nothing came in time\n"
           " 10  trouble on this side: a file, memory, standard output\n"
           "130  interrupted\n");
}

int ctl_run_help(struct ctl *c) {
    const char *name = ctl_operand(c);
    if (!name) {
        ctl_help();
        return CTL_OK;
    }
    if (strcmp(name, "exit") == 0) {
        help_exit();
        return CTL_OK;
    }
    bool names = strcmp(name, "--names") == 0, options = strcmp(name, "--options") == 0;
    bool verbs = strcmp(name, "--verbs") == 0;
    const char *of = options || verbs ? ctl_operand(c) : NULL;
    for (size_t i = 0; i < ctl_n_commands; i++) {
        const struct ctl_command *cmd = &ctl_commands[i];
        if (names) {
            printf("%s\n", cmd->name);
        } else if (options && of && strcmp(of, cmd->name) == 0) {
            for (const struct ctl_option *o = cmd->options; o->name; o++) {
                printf("--%s\n", o->name);
            }
        } else if (verbs && of && strcmp(of, cmd->name) == 0) {
            for (const struct ctl_verb *v = cmd->verbs; v && v->name; v++) {
                printf("%s\n", v->name);
            }
        } else if (strcmp(name, cmd->name) == 0) {
            ctl_help_command(cmd);
            return CTL_OK;
        }
    }
    return names || options || verbs ? CTL_OK : ctl_usage(c, "there is no command %s", name);
}
