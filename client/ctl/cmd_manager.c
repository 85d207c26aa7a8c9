/* SPDX-License-Identifier: MIT */
/* manager: a scope of shared objects around a command. The command is a child that finds the prefix in $HEARTH_MANAGER; the
 * manager is this process's connection's, so it ends with the command, and also when this process is killed.
 *
 * SIGINT comes from a terminal, which sends it to the command as well: it is the command's to decide. SIGTERM is passed on. In
 * both cases the command's end is waited for.
 *
 * Fails: the command's exit status, 128 and the signal that killed it; else an exit status of ctl.h. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl/ctl.h"

/* Waits for the child; its exit status as a shell tells it. */
static int wait_for(pid_t pid) {
    int status;
    bool told = false;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return CTL_LOCAL;
        }
        if (ctl_interrupted() && !told) {
            kill(pid, SIGTERM);
            told = true;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(struct ctl *c, char **argv) {
    char prefix[HEARTH_PREFIX_MAX + 1];
    pid_t pid;
    int status = ctl_connect(c);
    if (status != CTL_OK) {
        return status;
    }
    int r = hearth_manager_open(c->h, prefix);
    if (r != 0) {
        return ctl_failed(c, r);
    }
    if (setenv("HEARTH_MANAGER", prefix, 1) < 0) {
        return ctl_say(c, CTL_LOCAL, "out of memory");
    }
    ctl_catch_signals();
    r = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (r != 0) {
        return ctl_say(c, r == ENOENT ? 127 : 126, "cannot run %s: %s", argv[0], strerror(r));
    }
    signal(SIGINT, SIG_IGN);
    status = wait_for(pid);
    r = hearth_manager_close(c->h, prefix);
    if (r != 0) {
        ctl_failed(c,
                   r); /* it has ended all the same; the command's status is what was asked for */
    }
    return status;
}

int cmd_manager(struct ctl *c) {
    if (ctl_option(c) == CTL_STOP) {
        return c->status;
    }
    const char *verb = ctl_operand(c);
    if (verb && strcmp(verb, "run") == 0) {
        if (ctl_option(c) == CTL_STOP) { /* takes the -- */
            return c->status;
        }
        return c->argc > 0 ? run(c, c->argv)
                           : ctl_usage(c, "run what? hearth manager run COMMAND...");
    }
    if (verb && strcmp(verb, "list") == 0) {
        return ctl_option(c) == CTL_STOP ? c->status
               : ctl_operand(c)          ? ctl_usage(c, "list takes no more words")
                                         : ctl_list_managers(c);
    }
    return ctl_usage(c, "run or list?");
}
