/* SPDX-License-Identifier: MIT */
/* hearth dump and hearth load: the state of one daemon in a fresh one with another segment_size, byte for byte, and the tasks that
 * waited run there. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/daemon/ctl_support.h"

static char config[1024];

static void configure(const char *size) {
    snprintf(config, sizeof(config),
             "segment_size = \"%s\"; segment_path = \"none\"; stop_timeout = 1;\n"
             "pools = ( { name = \"demo\"; module = \"demo.so\"; workers = 1; },\n"
             "          { name = \"shell\"; exec = [ ]; workers = 2; } );\n",
             size);
}

/* Another daemon, with nothing; the directory is the same. */
static void fresh(const char *size) {
    kill(d.pid, SIGTERM);
    cr_assert_eq(daemon_wait(&d, 15000), 0);
    configure(size);
    cr_assert_eq(tmp_write(d.dir, strrchr(d.config, '/') + 1, config, strlen(config)), 0);
    cr_assert_eq(daemon_restart(&d), 0);
    cr_assert_eq(daemon_wait_ready(&d, 20000), 0, "%s", daemon_log(&d));
}

static void begin(void) {
    configure("64M");
    cr_assert_eq(daemon_start(&d, &(struct daemon_options){.config = config}), 0);
    cr_assert_eq(daemon_wait_ready(&d, 20000), 0, "%s", daemon_log(&d));
}

TestSuite(dump, .init = begin, .fini = ctl_end, .timeout = 60);

Test(dump, objects) {
    /* 20 values of 500,000 bytes make this dict one that is copied; so is that list */
    expect("v=$(head -c 500000 /dev/zero | tr '\\0' v)\n"
           "for i in $(seq 20); do printf '{\"field\":\"%d\",\"value\":\"%s\"}\\n' $i $v; done | "
           "hearth dict big import\n"
           "for i in $(seq 20); do printf '\"%d%s\"\\n' $i $v; done | hearth list long import\n"
           "hearth dict small set f v 'g \"' 'two\nlines' >/dev/null\n"
           "hearth list l push a '' c >/dev/null; hearth set v text; hearth set n 42\n"
           "hearth raw SET bin $'\\xff\\x01' >/dev/null; hearth raw SET $'k\\xff' x >/dev/null\n"
           "hearth set soon x -t 1h; hearth queue q put x\n"
           "hearth dict big items | sort | sha256sum >sums; hearth list long range | sha256sum "
           ">>sums\n"
           "hearth raw GET bin | od -c >>sums\n"
           "hearth dump state.jsonl; wc -l <state.jsonl | tr -d ' ' >/dev/null; hearth keys '@*'",
           0, "", "left out: 1 objects that are no");
    fresh("128M");
    expect("hearth load state.jsonl; hearth keys | wc -l", 0, "9\n", "9 objects and 0 tasks");
    expect(
        "hearth dict big items | sort | sha256sum >now; hearth list long range | sha256sum >>now\n"
        "hearth raw GET bin | od -c >>now; cmp now sums\n"
        "hearth dict small get f 'g \"'; hearth list l range; hearth get v n; hearth raw GET "
        "$'k\\xff'\n"
        "test $(hearth raw TTL soon) -gt 3000 && echo 1; hearth keys '@*'",
        0, "v\ntwo\nlines\na\n\nc\ntext\n42\nx\n1\n", "");
    expect("hearth set v other; hearth load state.jsonl; hearth get v", 0, "other\n",
           "9 were there already");
    expect("hearth load --replace state.jsonl; hearth get v; hearth list l len; hearth fsck "
           ">/dev/null",
           0, "text\n3\n", "9 objects");
}

Test(dump, tasks) {
    expect("hearth raw POOL.PAUSE shell OUT >/dev/null\n"
           "a=$(hearth submit --group g shell.run sh -c 'echo one >>$0' $PWD/ran)\n"
           "hearth submit --after $a --group g --last shell.run sh -c 'echo two >>$0' $PWD/ran "
           ">/dev/null\n"
           "hearth submit --after group:g --retry 3 --deadline 1h shell.run sh -c 'echo three "
           ">>$0' $PWD/ran >/dev/null\n"
           "printf 'b\\xff' >in; hearth submit --in in --priority 200 --delay 2s demo.echo "
           ">/dev/null\n"
           "hearth submit --delay 1h --unique u demo.echo late >/dev/null\n"
           "hearth submit demo.sleep 60000 >/dev/null\n"
           "until hearth tasks --state running | grep -q sleep; do :; done\n"
           "hearth dump state.jsonl; grep -c '\"task\"' state.jsonl; grep -c "
           "'\"group\":\"g\",\"closed\":1' state.jsonl",
           0, "5\n1\n", "left out: 1 tasks that run");
    fresh("32M");
    expect("hearth load state.jsonl", 0, "", "0 objects and 5 tasks");
    expect("hearth load state.jsonl", 0, "",
           "0 objects and 4 tasks\nhearth: load: 1 were there already");
    expect("until [ \"$(cat ran 2>/dev/null | wc -l)\" = 3 ]; do :; done; cat ran\n"
           "hearth tasks --state waiting | grep -c echo",
           0, "one\ntwo\nthree\n2\n", "");
    expect("id=$(hearth --json tasks -n 10 | sed -n "
           "'s/.*\"id\":\"\\([^\"]*\\)\".*\"handler\":\"echo\".*/\\1/p' |"
           " tail -n 1); hearth wait $id | od -An -c | tr -d ' '",
           0, "b377\n", "");
}

Test(dump, what_is_wrong) {
    expect("hearth load nonesuch", 10, "", "cannot open nonesuch");
    expect("hearth set v old; echo '{\"value\":\"v\",\"items\":[\"new\"]}' >one; hearth load one "
           "--replaec; "
           "hearth get v",
           0, "old\n", "no option --replaec");
    expect("hearth load one --replace; hearth get v; hearth del v >/dev/null", 0, "new\n", "");
    expect("echo '{\"dict\":' | hearth load", 10, "", "line 1:");
    expect("echo '{\"hearth\":2}' | hearth load", 10, "", "a dump of format 2");
    expect("echo '{\"dict\":\"d\",\"items\":[\"f\"]}' | hearth load", 6, "", "half of one");
    expect("echo '{\"task\":\"1-1\",\"pool\":\"nonesuch\",\"handler\":\"h\",\"payload\":\"\"}\n"
           "{\"value\":\"v\",\"items\":[\"x\"]}' | hearth load; hearth get v",
           0, "x\n", "NOPOOL");
    expect("echo '{\"value\":\"old\",\"expire_at\":1000,\"items\":[\"x\"]}' | hearth load; hearth "
           "keys",
           0, "v\n", "0 objects");
}
