/* SPDX-License-Identifier: MIT */
/* The hearth command, and the examples of libhearth, against the real daemon. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/daemon/ctl_support.h"

TestSuite(ctl, .init = ctl_begin, .fini = ctl_end, .timeout = 90);

Test(ctl, call_tells_every_end_by_its_exit_status) {
    expect("printf 'a\\0b' | hearth call demo.echo --in - | od -An -c", 0, "   a  \\0   b\n", "");
    expect("hearth call demo.echo", 0, "", "");
    expect("hearth call demo.fail 'no such file'", 1, "", "no such file");
    expect("hearth call demo.crash 9", 3, "", "signal 9");
    expect("hearth call -t 50ms demo.sleep 20000", 4, "", "time limit of 50 ms");
    expect("hearth call demo.nonesuch", 6, "", "NOHANDLER");
    cr_expect(strstr(buf_head(&out.err), "The handlers of demo are:"));
    cr_expect(strstr(buf_head(&out.err), "echo"));
    expect("hearth call nonesuch.x", 6, "", "The pools are: demo shell");
}

Test(ctl, call_runs_commands_without_a_shell) {
    expect("hearth call shell printf '%s|' 'a b' '$HOME' -x", 0, "a b|$HOME|-x|", "");
    expect("printf '3\\n1\\n2\\n' | hearth call shell -i - sort -r", 0, "3\n2\n1\n", "");
    expect("hearth call shell sh -c 'echo oops >&2; exit 7'", 1, "", "  | oops");
    cr_expect(strstr(buf_head(&out.err), "exit status 7"), "%s", buf_head(&out.err));
}

Test(ctl, options_say_when_a_task_runs) {
    expect(
        "hearth call shell --retry 3 --on error --backoff 10ms sh -c 'test $HEARTH_ATTEMPT = 2 && "
        "echo $HEARTH_ATTEMPT'",
        0, "2\n", "");
    expect("hearth call demo.echo --delay 5s --expire 20ms", 4, "", "not begun in time");
    expect("hearth call demo.sleep --deadline 50ms 30000", 4, "", "not ended by its deadline");
    expect("id=$(hearth submit demo.echo --priority 200 --delay 30); hearth tasks --state waiting "
           "--json | wc -l; hearth cancel $id",
           0, "1\n1\n", "");
    expect("printf 'a\nb\n' | hearth map -pk --priority 7 demo.echo", 0, "a\nb\n", "");
    expect("hearth call --soft 50ms shell sleep 30", 4, "", "soft");
    expect(
        "hearth call shell --memory 16M sh -c 'x=$(head -c 64000000 /dev/zero | tr \"\\\\0\" a); "
        "sleep 30'",
        3, "", "memory");
    expect("hearth wait $(hearth submit --soft 5 --memory 1G demo.echo x)", 0, "x", "");
    expect("hearth schedule add --soft 5 --memory 1G s 'every 1h' demo.echo x | wc -l", 0, "1\n",
           "");
    expect("echo a | hearth map -p --soft 5s --memory 256M demo.echo", 0, "a\n", "");
    expect("hearth call --memory lots demo.echo x", 2, "", "not a size: lots");
    expect("hearth call demo.echo --priority 256", 6, "",
           "priority is not an integer from 0 to 255");
}

Test(ctl, dead_letters_groups_and_priorities) {
    expect("hearth call demo.fail no --retry 1", 1, "", "no");
    expect("hearth call --retry 1 demo.fail no; hearth dead list --json | wc -l; id=$(hearth dead "
           "list | awk 'NR == 2 { print $1 }'); hearth dead info $id | grep -c '^attempt *2'; "
           "new=$(hearth dead requeue $id); hearth wait $new; hearth dead requeue 1-1; hearth dead "
           "purge; hearth dead list",
           0, "1\n1\n1\n", "no dead letters");
    expect("hearth submit demo.echo --group g a >id; hearth submit demo.echo --group g --last b "
           ">>id; hearth call demo.echo --after group:g=ok c; hearth group wait g | grep -cE "
           "'^(total|done) *2'",
           0, "c2\n", "");
    expect("hearth submit demo.echo --group g x", 6, "", "CLOSED");
    expect(
        "hearth submit demo.echo --group h --delay 1m >id; hearth priority $(cat id) 200; hearth "
        "tasks $(cat id) | grep -c '^priority *200'; hearth group close h; hearth group cancel h; "
        "hearth priority $(cat id) 7",
        8, "1\n1\n", "it has ended");
    expect("hearth call --limit k=1 demo.echo x; hearth call --limit k demo.echo x", 2, "x",
           "not KEY=N: k");
    expect(
        "hearth submit --unique u --delay 1m demo.echo x >id; hearth submit --unique u demo.echo "
        "x; hearth submit --unique u=attach demo.echo x | cmp - id; hearth call --unique "
        "u=replace demo.echo y; hearth result $(cat id)",
        5, "y", "EXISTS");
    expect("seq 5 | hearth map -pk --group m --limit k=1 demo.echo; hearth group info m | grep -c "
           "'^done *5'",
           0, "1\n2\n3\n4\n5\n1\n", "");
    expect(
        "hearth call --owned --delay 1m demo.echo x & pid=$!; until hearth tasks --state waiting "
        "--json | grep -q .; do :; done; kill -9 $pid; wait $pid; until hearth tasks --state "
        "cancelled --json | grep -q .; do :; done; echo $?",
        0, "0\n", "");
}

Test(ctl, an_interrupted_call_cancels) {
    expect("\"$HEARTH_CTL\" call demo.sleep 30000 & pid=$!\n"
           "until [ \"$(hearth tasks --state running --json | wc -l)\" = 1 ]; do :; done\n"
           "kill -TERM $pid; wait $pid; echo $?\n"
           "hearth tasks --state cancelled --json | wc -l",
           0, "130\n1\n", "cancelled");
}

Test(ctl, submit_wait_result_cancel) {
    expect("id=$(hearth submit demo.echo --in <(printf 'x\\ny')); hearth wait $id; echo; hearth "
           "wait $id",
           0, "x\ny\nx\ny", "");
    expect("a=$(hearth submit demo.sleep 10); b=$(hearth submit demo.echo)\n"
           "hearth wait $a $b | sed \"s/$a/A/; s/$b/B/\" | cut -c1 | sort",
           0, "A\nB\n", "");
    expect("id=$(hearth submit demo.sleep 30000); hearth result $id; echo $?\n"
           "hearth wait -t 20ms $id; echo $?; hearth cancel $id; hearth wait $id; echo $?",
           0, "9\n9\n1\n5\n", "cancelled by client");
    expect("hearth wait 0-0", 8, "", "NOTASK");
    expect("hearth cancel 0-0", 8, "0\n", "");
    expect("hearth --json result $(hearth submit demo.fail x) >/dev/null; id=$(hearth submit "
           "demo.fail y)\n"
           "hearth wait --json $id | sed \"s/$id/ID/; s/\\\"code\\\":[0-9]*/CODE/\" | grep -c "
           "'\"status\":\"failed\"'",
           0, "1\n", "");
}

Test(ctl, map_over_files) {
    expect("mkdir a b; echo one >a/x; printf 'two\\nlines' >b/x; : >empty\n"
           "hearth map -k demo.echo a/x b/x empty",
           0, "a/x\tone\nb/x\ttwo\nb/x\tlines\nempty\t\n", "");
    expect("hearth map demo.echo a/x b/x \"$PWD/a/../empty\" --out out; find out -type f | sed "
           "\"s,$PWD,/PWD,\" | sort\n"
           "cat out/b/x.out",
           0, "out/PWD/a/__/empty.out\nout/a/x.out\nout/b/x.out\ntwo\nlines", "");
    expect("hearth map demo.echo a/x nonesuch", 10, "a/x\tone\n", "cannot open nonesuch");
    expect("find a b -type f -print0 | sort -z | hearth map -kp0 --files demo.echo", 0,
           "one\ntwo\nlines\n", "");
    expect("head -c 1000 /dev/urandom >bin; hearth map --json demo.echo bin |\n"
           "sed 's/.*\"result\":\"\\([^\"]*\\)\",\"encoding\":\"base64\".*/\\1/' | base64 -d | cmp "
           "- bin",
           0, "", "");
}

Test(ctl, map_over_lines_bounded_and_in_order) {
    expect("seq 20000 | hearth map demo.echo -p | sort -n | cmp - <(seq 20000)", 0, "", "");
    expect("seq 20000 | hearth map demo.echo -pk | cmp - <(seq 20000)", 0, "", "");
    expect("seq 3 | hearth map demo.fail -a boom", 1, "", "line 2: failed: ");
    expect("seq 3 | hearth map -k demo.echo -S", 0, "1\t1\n2\t2\n3\t3\n", "tasks               3");
    cr_expect(strstr(buf_head(&out.err), "worker"));
    expect("(seq 4; seq 5 8 | sed 's/^/x/') | hearth map --json -k demo.echo | wc -l", 0, "8\n",
           "");
}

/* On a terminal; `script` gives it one, and grep sees the redrawn line as part of a long one. */
Test(ctl, map_splits_in_the_daemon) {
    expect("seq 20000 >in; hearth map --split demo.echo in | cmp - in", 0, "", "");
    expect("hearth map --split --chunk 3 demo.echo <in | cmp - in", 0, "", "");
    expect("hearth map --split demo.echo in in", 2, "", "--split takes one input");
    expect("printf 'b\na\nd\nc' | hearth map --split --chunk 2 shell -a sort", 0, "a\nb\nc\nd\n",
           "");
    expect("printf 'a\\0b\\0' | hearth map --split -0 --chunk 1 shell -a wc -a -c -t 5", 0,
           "2\n2\n", "");
    expect("hearth map --split demo.echo </dev/null", 0, "", "");
    expect("seq 5 | hearth map --split --chunk 2 demo.fail -a boom", 1, "", "chunk 3: failed: ");
    expect("seq 5 | hearth map --split --chunk 2 --json demo.echo | grep -c index", 0, "3\n", "");
    expect("seq 5 | hearth map --chunk 2 demo.echo", 2, "", "--chunk goes with it");
    expect(
        "seq 9 | \"$HEARTH_CTL\" map --split --chunk 1 demo.sleep -a 30000 & pid=$!\n"
        "until hearth tasks --state running | grep -q running; do :; done; kill $pid; wait $pid\n"
        "while hearth tasks --state running | grep -q running; do :; done\n"
        "hearth tasks --state cancelled --json | wc -l",
        0, "9\n", "");
}

Test(ctl, map_draws_a_bar_with_the_time_left) {
    expect("touch f{1..20}\n"
           "script -qec '\"$HEARTH_CTL\" map demo.sleep -a 40 f*' /dev/null </dev/null >drawn\n"
           "grep -aoE '[0-9]+% \\[#+\\.*\\] [0-9]+/20 +[0-9]+/s +ETA [0-9]+:[0-9]{2}' drawn | sed "
           "'1q' | grep -o ETA\n"
           "grep -aoE '^(tasks|failed) +[0-9]+' drawn | tr -s ' '",
           0, "ETA\ntasks 20\nfailed 0\n", "");
    expect("\"$HEARTH_CTL\" map -S demo.sleep -a 40 f* 2>&1 | grep -c ETA", 1, "0\n", "");
}

Test(ctl, an_interrupted_map_cancels_what_it_had) {
    expect("seq 10 | \"$HEARTH_CTL\" map demo.sleep -a 30000 & pid=$!\n"
           "until [ \"$(hearth tasks --state running --json | wc -l)\" = 2 ]; do :; done\n"
           "kill -INT $pid; wait $pid; echo $?\n"
           "until [ \"$(hearth tasks --state cancelled --json | wc -l)\" = 10 ]; do :; done",
           0, "130\n", "");
}

Test(ctl, lists) {
    expect("hearth pools | awk '{print $1, $2, $3}'", 0,
           "POOL KIND STATE\ndemo module ready\nshell exec ready\n", "");
    expect("hearth pools demo | awk '$1 == \"handlers\"' | grep -c echo", 0, "1\n", "");
    expect("hearth workers --pool demo | awk 'NR > 1 {print $1, $3}' | sort -u", 0,
           "demo serving\n", "");
    expect("hearth tasks", 0, "", "no tasks");
    expect("hearth call demo.echo; hearth tasks | awk 'NR == 2 {print $2, $3, $4}'", 0,
           "demo echo done\n", "");
    expect("hearth tasks $(hearth submit demo.echo) | awk '$1 == \"handler\" {print $2}'", 0,
           "echo\n", "");
    expect("hearth tasks --json -n 1 | grep -c '^{\"id\":\"'", 0, "1\n", "");
    expect("hearth tasks --state nonsense", 6, "", "ERR");
    expect("hearth workers --pool nonesuch", 6, "", "NOPOOL");
}

Test(ctl, the_daemon_itself) {
    expect("hearth ping | cut -d' ' -f1", 0, "PONG\n", "");
    expect("hearth ping -n 50 | cut -d' ' -f1", 0, "50\n", "");
    expect("hearth info | grep -c '^# Server'", 0, "1\n", "");
    expect("hearth info --json | grep -c '^{\"Server\":{'", 0, "1\n", "");
    expect("hearth raw ECHO hello", 0, "hello\n", "");
    expect("hearth raw NONESUCH", 6, "", "ERR unknown command");
    expect("hearth raw RESET", 10, "", "would upset");
    expect("hearth raw --json CLIENT ID | grep -c '^[0-9]*$'", 0, "1\n", "");
    expect("\"$HEARTH_CTL\" raw SUBSCRIBE chat >heard & pid=$!\n"
           "until hearth raw PUBLISH chat hello | grep -q 1; do :; done\n"
           "until grep -q hello heard; do :; done; kill -INT $pid; wait $pid",
           0, "", "");
}

Test(ctl, examples_run) {
    expect("\"$HEARTH_BUILD/client/examples/example-poll\" demo echo a b c | sort", 0,
           "a -> a\nb -> b\nc -> c\n", "turns of the loop");
    expect(
        "\"$HEARTH_BUILD/client/examples/example-libevent\" demo echo a b c | cut -d' ' -f2 | sort",
        0, "a\nb\nc\n", "ticks of a timer");
    expect("\"$HEARTH_BUILD/client/examples/example-apply\" | grep -c ok", 0, "6\n", "");
}

Test(ctl, what_tasks_tell_while_they_run) {
    expect("hearth call --stream demo.steps 3 0", 0, "step 1\nstep 2\nstep 3\nall steps", "");
    expect("hearth call demo.steps 3 0", 0, "all steps", "");
    expect("hearth call --stream shell sh -c 'echo a; echo b >&2; exit 3'", 1, "a\n", "b\n");
    cr_expect_not(strstr(buf_head(&out.err), "  | b"), "%s", buf_head(&out.err));
    expect("id=$(hearth submit demo.steps 2 100); hearth log -f $id; echo; hearth log $id; hearth "
           "wait $id",
           0, "step 1\nstep 2\n\nstep 1\nstep 2\nall steps", "");
    expect("id=$(hearth submit shell sh -c 'echo out; echo err >&2; exit 2'); hearth log -f $id", 1,
           "out\n", "err\n");
    expect("hearth log 1-1", 8, "", "NOTASK");
    expect("id=$(hearth submit demo.steps 1 0); hearth wait $id; hearth log --json $id", 0,
           "all steps{\"kind\":\"data\",\"text\":\"step 1\\n\"}\n"
           "{\"kind\":\"progress\",\"done\":1,\"total\":1,\"text\":\"stepping\"}\n",
           "");
}

/* On a terminal; off it there is none (above). */
Test(ctl, the_bar_of_one_task) {
    cr_expect_eq(sh("script -qec \"$HEARTH_CTL call demo.steps 4 120\" /dev/null </dev/null | tr "
                    "'\\r' '\\n'"),
                 0);
    cr_expect(strstr(buf_head(&out.out), "% [##########"), "%s", buf_head(&out.out));
    cr_expect(strstr(buf_head(&out.out), "all steps"), "%s", buf_head(&out.out));
    cr_expect_eq(sh("id=$(hearth submit demo.steps 8 100); script -qec \"$HEARTH_CTL wait $id\" "
                    "/dev/null </dev/null"),
                 0);
    bool moves = false; /* any of those between: on a busy machine some are not drawn */
    for (int i = 2; i < 8; i++) {
        char step[32];
        snprintf(step, sizeof(step), "] %d/8 stepping", i);
        moves |= strstr(buf_head(&out.out), step) != NULL;
    }
    cr_expect(moves, "%s", buf_head(&out.out));
}

Test(ctl, steering) {
    cr_expect_eq(sh("hearth pool resize demo 3 && hearth config get pools.demo.workers"), 0);
    cr_expect(buf_len(&out.out) > 0 && strcmp(buf_head(&out.out), "pools.demo.workers = 3\n") == 0);
    cr_expect_eq(sh("hearth pool recycle demo; hearth pool pause demo in; hearth call demo.echo"),
                 6);
    cr_expect_eq(sh("hearth pool resume demo && hearth pool drain demo && hearth pool resume demo"),
                 0);
    cr_expect_eq(sh("test $(hearth pool broadcast demo echo hi | grep -c '^[0-9]*\thi$') -ge 1"),
                 0);
    cr_expect_eq(sh("hearth config set log_level debug result_keep 5 && hearth config rewrite && "
                    "hearth reload"),
                 0);
    cr_expect_eq(buf_len(&out.out), 0);
    cr_expect_eq(sh("hearth config set nosuch 1"), 6);
    cr_expect(strstr(buf_head(&out.err), "Unknown option"), "%s", buf_head(&out.err));
    cr_expect_eq(sh("echo 'log_level = loud;' >> *.conf; hearth reload"), 6);
    cr_expect(strstr(buf_head(&out.err), "hearthd.conf:"), "%s", buf_head(&out.err));
    cr_expect_eq(sh("hearth pool"), 2);
    cr_expect_eq(sh("hearth config"), 2);
}
