/* SPDX-License-Identifier: MIT */
/* The hearth command where no daemon is needed: what it says about wrong words and about a daemon
 * that is not there, and that help, the man page and bash completion know the same commands and
 * options. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/child.h"
#include "tests/support/tmp.h"

static struct child_output out;

static void end(void) {
    child_output_deinit(&out);
    child_kill_all();
}

TestSuite(ctl_words, .fini = end, .timeout = 60);

/* Runs the shell with the words as $1.. and HEARTH_CTL in its environment. */
static int sh(const char *script) {
    const char *argv[] = {"bash", "-c", script, NULL};
    const char *env[] = {"HEARTH_SOCKET=/nonexistent/hearth.sock", NULL};
    child_output_deinit(&out);
    cr_assert_eq(child_run(argv, env, NULL, 0, &out), 0);
    return out.status;
}

static void expect(const char *words, int status, const char *in_out, const char *in_err) {
    char script[600];
    snprintf(script, sizeof(script), "exec \"$HEARTH_CTL\" %s", words);
    int got = sh(script);
    cr_expect_eq(got, status, "hearth %s: exit status %d, not %d: %s", words, got, status,
                 buf_head(&out.err));
    cr_expect(strstr(buf_head(&out.out), in_out), "hearth %s: standard output: %s", words,
              buf_head(&out.out));
    cr_expect(strstr(buf_head(&out.err), in_err), "hearth %s: standard error: %s", words,
              buf_head(&out.err));
}

Test(ctl_words, help_teaches) {
    expect("", 0, "First steps:", "");
    expect("--help", 0, "hearth ping", "");
    expect("--version", 0, "hearth 0.", "");
    expect("help map", 0, "--ordered", "");
    expect("map --help", 0, "--ordered", "");
    expect("call -h", 0, "--in FILE", "");
    expect("help exit", 0, "no connection", "");
}

Test(ctl_words, mistakes_are_named) {
    expect("nonesuch", 2, "", "there is no command nonesuch");
    expect("help nonesuch", 2, "", "there is no command nonesuch");
    expect("--nonesuch ping", 2, "", "there is no option --nonesuch");
    expect("call", 2, "", "POOL.HANDLER is missing");
    expect("call .x", 2, "", "not POOL.HANDLER: .x");
    expect("call demo.", 2, "", "not POOL.HANDLER: demo.");
    expect("call --in", 2, "", "--in needs a value: FILE");
    expect("call -t forever demo.echo", 2, "", "not a time: forever");
    expect("call --timeout=1y demo.echo", 2, "", "not a time: 1y");
    expect("map -j 0 demo.echo", 2, "", "not a number from 1 to");
    expect("map -kx demo.echo", 2, "", "there is no option -x");
    expect("map --ordered=yes demo.echo", 2, "", "--ordered takes no value");
    expect("map --files demo.echo a", 2, "", "--files takes the names from standard input");
    expect("wait", 2, "", "ID is missing");
    expect("wait -t", 2, "", "-t needs a value");
    expect("result", 2, "", "ID is missing");
    expect("cancel", 2, "", "ID is missing");
    expect("raw", 2, "", "WORD is missing");
    expect("workers x", 2, "", "not a pid");
    expect("ping -n 0", 2, "", "not a number");
    expect("tasks -n many", 2, "", "not a number");
}

Test(ctl_words, a_daemon_that_is_not_there_is_explained) {
    static const char *const words[] = {"ping",
                                        "call demo.echo x",
                                        "submit demo.echo",
                                        "wait 1-1",
                                        "result 1-1",
                                        "cancel 1-1",
                                        "map demo.echo </dev/null",
                                        "tasks",
                                        "tasks 1-1",
                                        "pools",
                                        "workers",
                                        "info",
                                        "raw PING"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        expect(words[i], 7, "", "no daemon at /nonexistent/hearth.sock");
        cr_expect(strstr(buf_head(&out.err), "hearthd --foreground -s /nonexistent/hearth.sock"));
    }
    expect("-s /other.sock ping", 7, "", "no daemon at /other.sock");
    expect("ping --socket=/other.sock", 7, "", "no daemon at /other.sock");
    expect("--socket /dev/null ping", 7, "", "no daemon at /dev/null");
    expect("call demo.echo --in /nonexistent/file", 10, "", "cannot open /nonexistent/file");
}

Test(ctl_words, completion_knows_every_command_and_option) {
    int status =
        sh("set -eu\n"
           "source \"$HEARTH_SOURCE/client/ctl/hearth.bash\"\n"
           "COMP_WORDS=(hearth '') COMP_CWORD=1; _hearth\n"
           "for c in $(\"$HEARTH_CTL\" help --names); do\n"
           "    [[ \" ${COMPREPLY[*]} \" == *\" $c \"* ]] || { echo \"command $c\"; exit 1; }\n"
           "    mine=$(_hearth_options \"$c\" | tr ' ' '\\n' | sort)\n"
           "    ours=$(\"$HEARTH_CTL\" help --options \"$c\" | sort)\n"
           "    [[ $mine == \"$ours\" ]] || { echo \"options of $c: $mine\"; exit 1; }\n"
           "done\n");
    cr_assert_eq(status, 0, "completion: %s%s", buf_head(&out.out), buf_head(&out.err));
}

Test(ctl_words, the_man_page_knows_every_command_and_option) {
    int status = sh("set -eu\n"
                    "page=$(sed 's/\\\\-/-/g' \"$HEARTH_SOURCE/man/hearth.1\")\n"
                    "for c in $(\"$HEARTH_CTL\" help --names); do\n"
                    "    [[ $page == *\"hearth $c\"* ]] || { echo \"command $c\"; exit 1; }\n"
                    "done\n"
                    "for c in call wait map; do\n"
                    "    for o in $(\"$HEARTH_CTL\" help --options \"$c\"); do\n"
                    "        [[ $page == *\" $o\"* ]] || { echo \"option $o of $c\"; exit 1; }\n"
                    "    done\n"
                    "done\n");
    cr_assert_eq(status, 0, "man page: %s%s", buf_head(&out.out), buf_head(&out.err));
}

Test(ctl_words, the_library_page_knows_every_function) {
    int status = sh(
        "set -eu\n"
        "page=$(cat \"$HEARTH_SOURCE/man/libhearth.3\")\n"
        "n=0\n"
        "for f in $(grep -o 'hearth_[a-z_]*(' \"$HEARTH_SOURCE/client/hearth.h\" | sort -u); do\n"
        "    grep -q \"HEARTH_API.*[ *]$f\" \"$HEARTH_SOURCE/client/hearth.h\" || continue\n"
        "    n=$((n + 1))\n"
        "    [[ $page == *\"$f\"* ]] || { echo \"function $f\"; exit 1; }\n"
        "done\n"
        "((n > 25)) || { echo \"only $n functions\"; exit 1; }\n");
    cr_assert_eq(status, 0, "library page: %s%s", buf_head(&out.out), buf_head(&out.err));
}
