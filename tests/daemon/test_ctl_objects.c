/* SPDX-License-Identifier: MIT */
/* The hearth command on shared objects, against the real daemon. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/daemon/ctl_support.h"

TestSuite(ctl_objects, .init = ctl_begin, .fini = ctl_end, .timeout = 90);

Test(ctl_objects, values) {
    expect("hearth get v", 8, "", "");
    expect("hearth set v 'some text'; hearth get v", 0, "some text\n", "");
    expect("hearth set v x --new", 1, "", "v is there already");
    expect("hearth set w x --replace", 1, "", "w is not there");
    expect("hearth get v w", 8, "some text\n\n", "");
    expect("hearth get --json v w", 8, "\"some text\"\nnull\n", "");
    expect("hearth incr n; hearth incr n 41; hearth incr n -2; hearth incr n 0.5", 0,
           "1\n42\n40\n40.5\n", "");
    expect("hearth incr v", 6, "", "not an integer");
    expect("hearth set -t 1m t x; hearth expire t never; hearth keys --long t", 0,
           "string           -  t\n", "");
    expect("hearth set -t 50ms t y; until ! hearth get t >/dev/null; do :; done", 0, "", "");
    expect("hearth expire t 5s", 8, "", "");
    expect("hearth set v z -t 1h; hearth set v y --keep; hearth --json keys -L v |"
           " sed 's/[0-9]\\+/N/'",
           0, "{\"name\":\"v\",\"type\":\"string\",\"ttl_ms\":N}\n", "");
    expect("hearth del v n nonesuch; hearth keys", 0, "2\n", "");
    expect("hearth get", 2, "", "a word is missing");
    expect("hearth set a b c", 2, "", "a word too many: c");
}

Test(ctl_objects, keys_by_pattern) {
    expect("for i in $(seq 30); do hearth set user:$i x; done; hearth set other x\n"
           "hearth keys 'user:*' | sort | cmp - <(seq -f user:%g 30 | sort); hearth keys | wc -l\n"
           "hearth keys 'user:?' | wc -l",
           0, "31\n9\n", "");
}

Test(ctl_objects, dicts) {
    expect("hearth dict d get f", 8, "\n", "");
    expect("hearth dict d set f v g 'two words'; hearth dict d get g f", 0, "two words\nv\n", "");
    expect("hearth dict d set f", 2, "", "set takes these words: FIELD VALUE...");
    expect("hearth dict d set f v g", 2, "", "the last field has no value: g");
    expect("hearth dict d nonesuch", 2, "", "there is no verb nonesuch");
    expect("hearth dict d", 2, "", "VERB is missing");
    expect("hearth dict d has f; hearth dict d has x", 8, "yes\nno\n", "");
    expect("hearth dict d items | sort", 0, "f\tv\ng\ttwo words\n", "");
    expect("hearth dict d --json items | sort", 0,
           "{\"field\":\"f\",\"value\":\"v\"}\n{\"field\":\"g\",\"value\":\"two words\"}\n", "");
    expect("hearth dict d keys | sort; hearth dict d values | sort; hearth dict d len", 0,
           "f\ng\ntwo words\nv\n2\n", "");
    expect("hearth dict d incr n; hearth dict d incr n -5; hearth dict d incr n 1.5", 0,
           "1\n-4\n-2.5\n", "");
    expect("hearth dict d del f g x; hearth dict d clear; hearth keys", 0, "2\n", "");
    expect("hearth list l push x; hearth dict l clear", 6, "1\n", "WRONGTYPE");
}

Test(ctl_objects, lists) {
    expect("hearth list l push a b c; hearth list l push -l z; hearth list l range", 0,
           "3\n4\nz\na\nb\nc\n", "");
    expect("hearth list l range -2; hearth list l get 0; hearth list l get 9", 8, "b\nc\nz\n", "");
    expect("hearth list l set -1 C; hearth list l insert before b X; hearth list l range 1 3", 0,
           "5\na\nX\nb\n", "");
    expect("hearth list l insert after nonesuch X", 8, "", "");
    expect("hearth list l insert beside b X", 2, "", "insert before or after");
    expect("hearth list l index b; hearth list l index nonesuch", 8, "3\n", "");
    expect("hearth list l rem X; hearth list l rem X -1; hearth list l len", 0, "1\n0\n4\n", "");
    expect("hearth list l move m; hearth list l move m --right --left; hearth list m range", 0,
           "z\nC\nC\nz\n", "");
    expect("hearth list l pop; hearth list l pop 5 --right; hearth list l pop", 8, "a\nb\n", "");
    expect("hearth list l pop --wait 20ms", 9, "", "");
    expect("hearth list l pop -w 20s & hearth list l push late >/dev/null; wait $!", 0, "late\n",
           "");
    expect("hearth list l push -- -5 --json; hearth list l trim 1 1; hearth list l range", 0,
           "2\n--json\n", "");
    expect("hearth list l clear; hearth list l len", 0, "0\n", "");
}

Test(ctl_objects, export_and_import) {
    /* every byte there is, empty ones, many */
    expect("for i in $(seq 255); do hearth dict d set f$i \"$(printf \"\\\\x$(printf %x $i)\")\"; "
           "done\n"
           "seq 3000 | sed 's/.*/{\"field\":\"n&\",\"value\":&}/' | hearth dict d import\n"
           "hearth dict d import <<'E'\n"
           "{\"field\":\"quote\\\"d\",\"value\":\"\\u00e4\\ud83d\\ude00\\n\\t\\\\\"}\n"
           "\n"
           "{ \"value\" : {\"base64\":\"AP8BgA==\"} , \"field\" : \"\" }\n"
           "E\n"
           "hearth dict d len; hearth dict d export x; hearth dict e import x\n"
           "hearth dict e export | sort | cmp - <(sort x) && hearth dict e len",
           0, "3257\n3257\n", "");
    expect("hearth dict e get 'quote\"d'; hearth dict e get '' | od -An -tx1", 0,
           "\xc3\xa4\xf0\x9f\x98\x80\n\t\\\n 00 ff 01 80 0a\n", "");
    expect("seq 2500 | hearth list l import; hearth list l export - | tr -d '\"' |"
           " cmp - <(seq 2500); hearth list l len",
           0, "2500\n", "");
    expect("printf '1\\n2\\n[3]\\n4\\n' | hearth list m import", 10, "", "line 3: neither");
    expect("hearth list m range", 0, "1\n2\n", "");
    expect("echo '{\"field\":\"a\"}' | hearth dict d import", 10, "", "line 1: not an object");
    expect("hearth dict d import nonesuch", 10, "", "cannot open nonesuch");
    expect("hearth dict nonesuch export", 0, "", "");
}

/* While workers and clients change all there is. */
Test(ctl_objects, the_segment_is_checked_while_it_is_used) {
    expect("seq 20000 | sed 's/.*/{\"field\":\"n&\",\"value\":&}/' >x\n"
           "(for i in 1 2 3; do hearth dict d import x; hearth dict d clear; done) & w=$!\n"
           "seq 3000 | hearth map demo.echo -qp >/dev/null & m=$!\n"
           "for i in $(seq 15); do hearth fsck >said || cat said; done\n"
           "wait $m && wait $w && hearth fsck | sed 's/ [0-9].*//'",
           0, "all is well:\n", "");
    expect("hearth fsck --json | grep -o '\"errors\":0'", 0, "\"errors\":0\n", "");
    expect("hearth raw --json SEGMENT.INFO | grep -o '\"keys\":[0-9]*'", 0, "\"keys\":0\n", "");
}

Test(ctl_objects, in_the_scope_of_a_manager) {
    expect("export HEARTH_CTL\n"
           "hearth manager run -- bash -c 'n=${HEARTH_MANAGER}n; \"$HEARTH_CTL\" incr $n; "
           "\"$HEARTH_CTL\" incr $n 4\n"
           " \"$HEARTH_CTL\" manager list --json | sed \"s/[0-9a-f]\\{16\\}/P/; s/:[0-9]*/:N/g\"\n"
           " echo $n >name; exit 3'",
           3, "1\n5\n{\"prefix\":N\"@P:N\",\"client\":N,\"uid\":N,\"keys\":N,\"age_ms\":N}\n", "");
    expect("hearth get $(cat name)", 8, "", "");
    expect("hearth incr $(cat name)", 6, "", "NOMANAGER");
    expect("hearth keys; hearth manager list", 0, "", "no managers");
    expect("hearth manager run /nonesuch", 127, "", "cannot run /nonesuch");
    expect("hearth manager run sh -c 'kill -9 $$'", 137, "", "");
    expect("hearth manager", 2, "", "run or list?");
    expect("hearth manager run", 2, "", "run what?");
    /* killed, it leaves nothing; told to end, it tells the command */
    expect("\"$HEARTH_CTL\" manager run -- bash -c '\"$HEARTH_CTL\" set ${HEARTH_MANAGER}x 1; echo "
           "$HEARTH_MANAGER >p; \n"
           " exec sleep 60' & pid=$!\n"
           "until test -s p; do :; done; kill $pid; wait $pid; echo $?; hearth keys",
           0, "143\n", "");
}

Test(ctl_objects, arrays_and_blocks) {
    expect("hearth array a get 0", 6, "", "no such key");
    expect("hearth array a create int16 5; hearth array a set 1 7 -8; hearth array a range", 0,
           "0\n7\n-8\n0\n0\n", "");
    expect("hearth array a add 1; hearth array a add 1 -10; hearth array a get 1", 0, "8\n-2\n-2\n",
           "");
    expect("hearth array a cas 1 -2 3; hearth array a fill 3 2 9; hearth array a range 1 -1", 0,
           "yes\n3\n-8\n9\n9\n", "");
    expect("hearth array a cas 1 0 3", 8, "no\n", "");
    expect("hearth array a info", 0, "type\tint16\nlength\t5\nwidth\t2\npinned\t0\n", "");
    expect("hearth array a create int8 5", 6, "", "of another type or length");
    expect("hearth array a set 0 40000", 6, "", "out of range");
    expect("hearth array a set 0", 2, "", "takes these words");
    expect("hearth keys --long a", 0, "array            -  a\n", "");
    expect("hearth block create b 1K; echo hello | hearth block write b 1000; hearth block read b "
           "1000 6",
           0, "hello\n", "");
    expect("hearth block list 'b*' | tail -1 | cut -d' ' -f1; hearth block show b | grep -c 1024",
           0, "b\n1\n", "");
    expect("seq 1000 | hearth block write b", 1, "", "the block is full");
    expect("hearth block rm b; hearth block read b", 8, "", "no such block: b");
    expect("hearth block create b x", 2, "", "not a size");
    expect("hearth block", 2, "", "create, list");
}
