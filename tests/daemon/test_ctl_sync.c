/* SPDX-License-Identifier: MIT */
/* The hearth command on locks, semaphores, queues, pipes, events, barriers and processes, against the real daemon. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/daemon/ctl_support.h"

TestSuite(ctl_sync, .init = ctl_begin, .fini = ctl_end, .timeout = 90);

/* Until so many lines of the list of locks have this word. */
#define UNTIL                                                                                      \
    "until_() { until [ $(hearth lock --list 2>&1 | grep -c \"$1\") -ge $2 ]; do :; done; }\n"

Test(ctl_sync, a_command_under_a_lock) {
    expect("hearth lock l -- echo hello; hearth lock l echo hello -n", 0, "hello\nhello -n\n", "");
    expect("hearth lock l -- sh -c 'exit 7'", 7, "", "");
    expect("hearth lock l -- sh -c 'kill -9 $$'", 128 + 9, "", "");
    expect("hearth lock l -- /nonesuch", 127, "", "cannot run /nonesuch");
    expect("hearth lock l -- /", 126, "", "cannot run /");
    expect("hearth lock", 2, "", "NAME is missing");
    expect("hearth lock l", 2, "", "COMMAND is missing");
    expect("hearth lock l --timeout soon -- true", 2, "", "not a time");
    expect("hearth lock --list l", 0, "", "nothing is held");
    expect("hearth set v x; hearth lock v -- true", 6, "", "WRONGTYPE");
    /* in time, or not */
    expect("hearth lock l -- \"$HEARTH_CTL\" lock l --nonblock -- echo never", 1, "", "");
    expect("hearth lock l -- \"$HEARTH_CTL\" lock l -t 20ms -E 33 -- echo never", 33, "", "");
    expect("hearth lock l -- \"$HEARTH_CTL\" lock --list | awk '{print $1}'", 0, "NAME\nl\n", "");
}

Test(ctl_sync, one_at_a_time) {
    expect("for i in 1 2 3 4 5 6 7 8; do\n"
           "    hearth lock screen -- sh -c \"echo begin $i; echo end $i\" >>said &\n"
           "done; wait\n"
           "paste -d' ' - - <said | awk '{print $1, $3, $2 == $4}' | sort | uniq -c | tr -s ' '",
           0, " 8 begin end 1\n", "");
    expect("for i in 1 2 3 4 5 6; do\n"
           "    hearth sem two --max 2 -- sh -c 'echo + >>sems; sleep 0.05; echo - >>sems' &\n"
           "done; wait\n"
           "awk '{n += $1 == \"+\" ? 1 : -1; if (n > most) most = n} END {print NR, n, most <= 2}' "
           "sems",
           0, "12 0 1\n", "");
    expect("hearth sem two --max 3 -- true", 6, "", "is there with another --max");
    expect("hearth sem none -- true", 8, "", "--max N makes one");
    expect(
        "hearth sem two -n -- \"$HEARTH_CTL\" sem two -n -- \"$HEARTH_CTL\" sem two -n -E 5 true",
        5, "", "");
}

Test(ctl_sync, the_holder_dies) {
    /* the next is told, by words and to its command; the command is told to end */
    expect(UNTIL "hearth lock l -- sh -c 'trap \"echo told >ended; exit\" TERM; echo $PPID >pid;"
                 " while :; do sleep 0.01; done' &\n"
                 "until [ -s pid ]; do :; done\n"
                 "hearth lock l -- sh -c 'echo died=$HEARTH_OWNER_DIED' &\n"
                 "until_ waits 1; kill -9 $(cat pid); wait %2\n"
                 "until [ -s ended ]; do :; done; cat ended\n"
                 "hearth lock l -- sh -c 'echo died=${HEARTH_OWNER_DIED-no}'\n",
           0, "died=1\ntold\ndied=no\n", "OWNER_DIED");
}

Test(ctl_sync, signals_are_passed_on) {
    expect("hearth lock l -- sh -c 'trap \"echo usr1\" USR1; trap \"echo term; exit 3\" TERM;"
           " echo $PPID >pid; while :; do sleep 0.01; done' >said &\n"
           "until [ -s pid ]; do :; done\n"
           "kill -USR1 $(cat pid); until [ -s said ]; do :; done\n"
           "kill -TERM $(cat pid); wait $!; echo $?; cat said\n",
           0, "3\nusr1\nterm\n", "");
    /* who waits just ends */
    expect(UNTIL "hearth lock l -- sh -c 'until [ -e go ]; do sleep 0.01; done' &\n"
                 "until_ holds 1; \"$HEARTH_CTL\" lock l -- echo never & p=$!\n"
                 "until_ waits 1; kill $p; wait $p; echo $?; touch go; wait\n"
                 "hearth lock l -n echo free",
           0, "143\nfree\n", "");
}

Test(ctl_sync, queues) {
    expect("hearth queue q put one 'two words'; ls /nonesuch 2>&1 | hearth queue q put\n"
           "printf 'a\\nb\\n' >f; hearth queue q put --in f\n"
           "hearth queue q size; hearth queue q get 2; hearth queue q get >/dev/null\n"
           "hearth --json queue q get",
           0, "4\none\ntwo words\n{\"data\":\"a\\nb\\n\"}\n", "");
    expect("hearth queue q get --nonblock", 9, "", "");
    expect("hearth queue q get -t 10ms", 9, "", "");
    expect("hearth queue q put -n x; hearth queue q close; hearth queue q put y", 6, "", "CLOSED");
    expect("hearth queue q get all; hearth queue q get", 8, "x\n", "");
    expect("hearth del q; hearth queue q create --max 1; hearth queue q put x; hearth queue q put "
           "y -n",
           9, "1\n", "");
    expect("hearth queue q create --max 2", 6, "", "");
    expect("hearth queue q info | grep max_items | tr -s ' '; hearth del q", 0, "max_items 1\n1\n",
           "");
    /* producers and a consumer; what has been printed is done */
    expect("hearth queue q create --lease 30s\n"
           "(seq 1 50 | hearth queue q put; seq 51 100 | hearth queue q put; hearth queue q join\n"
           " hearth queue q close) &\n"
           "hearth queue q get all | sort -n | tail -1; wait",
           0, "100\n", "");
    expect("hearth queue q done", 6, "", "");
    expect("hearth queue q get x", 2, "", "not a number");
    expect("hearth queue q", 2, "", "VERB is missing");
}

Test(ctl_sync, pipes) {
    expect("hearth pipe p create --simplex\n"
           "hearth pipe p recv 0 all & printf 'one\\ntwo\\n' | hearth pipe p send 1; wait",
           0, "one\ntwo\n", "");
    expect("hearth pipe p send 0 x", 10, "", "");
    expect("hearth pipe p send 2 x", 2, "", "the ends of a pipe are 0 and 1");
    expect("hearth pipe none recv 0", 6, "", "");
}

Test(ctl_sync, events_and_barriers) {
    expect(UNTIL
           "hearth event e test; (hearth event e wait && echo seen) &\n"
           "until_ waits 1; hearth event e set; wait; hearth event e test; hearth event e clear\n"
           "hearth event e wait -t 10ms",
           9, "no\nseen\nyes\n", "");
    expect("hearth barrier b create 3\n"
           "for i in 1 2 3; do hearth barrier b wait & done | sort; wait",
           0, "0\n1\n2\n", "");
    expect("hearth barrier b wait -t 10ms; hearth barrier b wait", 6, "", "broken");
    expect("hearth barrier b reset; hearth barrier b info | grep broken | tr -s ' '", 0,
           "broken 0\n", "");
}

Test(ctl_sync, the_daemon_goes) {
    expect("hearth lock l -- sh -c 'trap \"echo told; exit 0\" TERM; touch began;"
           " while :; do sleep 0.01; done' &\n"
           "until [ -e began ]; do :; done; kill \"$HEARTHD_PID\"; wait %1",
           7, "told\n", "the daemon is gone");
    cr_expect_eq(daemon_wait(&d, 20000), 0);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 20000), 0);
}

Test(ctl_sync, options_behind_the_process) {
    expect("hearth proc start --name p sleep 100 >id; hearth proc wait p --timeout 20ms", 9, "",
           "has not ended");
    expect("hearth proc wait p q", 2, "", "just one PROCESS");
    expect("hearth proc wait", 2, "", "PROCESS is missing");
    expect("hearth proc kill p; hearth proc wait p --timeout 20s", 128 + 9, "", "");
    expect("hearth proc rm \"$(cat id)\"; hearth proc wait p --timeout 20s", 8, "",
           "no such process");
    /* of what is started the words are its own */
    expect("hearth proc run echo --timeout 1", 0, "--timeout 1\n", "");
}
