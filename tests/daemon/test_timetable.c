/* SPDX-License-Identifier: MIT */
/* Tasks by the clock: added, come due, skipped and made up for, run by hand, refused. What an
 * expression means is tests/unit/test_cron.c's. Fails: as a Criterion suite. */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "tests/daemon/serve_support.h"

static struct wire w;

static void begin(void) {
    setenv("TZ", "Europe/Berlin", 1);
    serve_begin(
        "pools = ( { name = \"demo\"; workers = 2; module = \"demo.so\"; kill_grace = 0.1; },\n"
        "  { name = \"one\"; workers = 1; exec = [ ]; queue_max = 1; } );\n"
        "stop_timeout = 1;\n");
    serve_connect(&w);
}

static void end(void) {
    wire_close(&w);
    serve_end();
}

TestSuite(timetable, .timeout = 60, .init = begin, .fini = end);

static long long number(const char *field) {
    long long n = 0;
    uint32_t at = wire_find(&w, 0, field);
    cr_assert(at, "no %s in %s", field, wire_show(&w));
    cr_assert_eq(sscanf(wire_show_at(&w, at), ":%lld", &n), 1);
    return n;
}

/* Until the field of a schedule is at least this. */
static void reaches(const char *name, const char *field, long long least) {
    uint64_t limit = clock_now() + 20 * NS_PER_SEC;
    do {
        cr_assert(clock_now() < limit, "%s: %s", field, wire_show(&w));
        ask(&w, "EVENTS.READ FROM $ BLOCK 20");
        ask(&w, "SCHEDULE.INFO %s", name);
    } while (number(field) < least);
}

Test(timetable, comes_again_and_its_tasks_carry_its_name) {
    char id[SERVE_ID];
    expect(&w, "+OK", "SCHEDULE.ADD beat EVERY 100 demo echo tick PRIORITY 7 EXPIRE 5000");
    expect(&w, "-EXISTS*", "SCHEDULE.ADD beat EVERY 200 demo echo tick");
    reaches("beat", "runs", 3);
    expect(&w,
           "[\"name\" \"beat\" \"when\" \"every 100 ms\" \"pool\" \"demo\" \"handler\" \"echo\" *",
           "SCHEDULE.INFO beat");
    long long next = number("next_ms"), last = number("last_ms");
    cr_assert(next > last && next - last <= 200, "%s", wire_show(&w));
    cr_assert_eq(sscanf(wire_show_at(&w, wire_find(&w, 0, "last_task")), "\"%63[^\"]", id), 1);
    expect(&w, "[*\"done\" \"tick\"*", "TASK.WAIT %s", id);
    expect(&w, "[*\"priority\" :7*\"schedule\" \"beat\"*", "TASK.STATUS %s", id);
    expect(
        &w,
        "[*[\"seq\" :* \"time_ms\" :* \"event\" \"schedule.fired\" \"task\" \"*\" \"late_ms\" :* "
        "\"schedule\" \"beat\"]*",
        "EVENTS.READ TYPE schedule");
    expect(&w, "[[\"name\" \"beat\"*]]", "SCHEDULE.LIST");
    expect(&w, ":1", "SCHEDULE.DEL beat nosuch");
    expect(&w, "[]", "SCHEDULE.LIST");
    expect(&w, "-NOSCHEDULE no such schedule 'beat'", "SCHEDULE.INFO beat");
    /* and no more of it comes */
    expect(&w, "[*\"events\" []]", "EVENTS.READ FROM $ BLOCK 250");
}

Test(timetable, not_while_the_last_one_runs_unless_allowed) {
    expect(&w, "+OK", "SCHEDULE.ADD slow EVERY 100 demo sleep '' ARG 60000");
    reaches("slow", "overlapped", 3);
    cr_assert_eq(number("runs"), 1);
    expect(&w, "[*\"schedule.overlapped\"*\"schedule\" \"slow\"*", "EVENTS.READ TYPE schedule");
    expect(&w, "+OK", "SCHEDULE.ADD slow EVERY 100 REPLACE demo sleep '' ARG 60000 OVERLAP ALLOW");
    reaches("slow", "runs", 3);
    cr_assert_eq(number("overlapped"), 0);
}

/* The daemon stands still for a while: what has come meanwhile. */
static void stand_still(void) {
    cr_assert_eq(kill(server.pid, SIGSTOP), 0);
    poll(NULL, 0, 700);
    cr_assert_eq(kill(server.pid, SIGCONT), 0);
}

Test(timetable, what_was_missed) {
    expect(&w, "+OK", "SCHEDULE.ADD all EVERY 100 demo echo x MISFIRE ALL OVERLAP ALLOW");
    expect(&w, "+OK", "SCHEDULE.ADD skip EVERY 100 demo echo x OVERLAP ALLOW");
    stand_still();
    reaches("skip", "missed", 4);
    ask(&w, "SCHEDULE.INFO all");
    cr_assert(number("runs") >= 6 && number("missed") >= 4, "%s", wire_show(&w));
    expect(&w, "[*\"schedule.missed\" \"times\" :*", "EVENTS.READ TYPE schedule COUNT 1000");
}

Test(timetable, paused_run_by_hand_and_refused) {
    char id[SERVE_ID];
    expect(&w, "+OK", "SCHEDULE.ADD p EVERY 100 demo echo hand");
    expect(&w, "+OK", "SCHEDULE.PAUSE p");
    ask(&w, "SCHEDULE.INFO p");
    long long runs = number("runs");
    expect(&w, "[*\"events\" []]", "EVENTS.READ FROM $ BLOCK 250 TYPE schedule");
    expect(&w, "[*\"next_ms\" :0*\"paused\" \"yes\"*", "SCHEDULE.INFO p");
    cr_assert_eq(number("runs"), runs);
    ask(&w, "SCHEDULE.RUN p");
    take_id(&w, id);
    expect(&w, "[*\"done\" \"hand\"*", "TASK.WAIT %s", id);
    expect(&w, "+OK", "SCHEDULE.RESUME p");
    reaches("p", "runs", runs + 2);
    cr_assert_eq(number("missed"), 0);
    /* a pool that takes none */
    expect(&w, "+OK", "POOL.PAUSE one IN");
    expect(&w, "+OK", "SCHEDULE.ADD q EVERY 100 one run '' ARG true");
    reaches("q", "refused", 2);
    expect(&w, "[*\"last_error\" \"the pool's queue is full, or paused\"*", "SCHEDULE.INFO q");
    expect(&w, "-BUSY pool 'one' is paused", "SCHEDULE.RUN q");
}

Test(timetable, expressions) {
    expect(&w, "+OK", "SCHEDULE.ADD nightly '30 2 * * *' demo echo x");
    ask(&w, "SCHEDULE.INFO nightly");
    long long next = number("next_ms");
    cr_assert(next > (long long)clock_wall_ms());
    cr_assert(next < (long long)clock_wall_ms() + 25 * 3600 * 1000);
    cr_assert_eq(next % (3600 * 1000), 1800 * 1000);
    cr_assert_eq(w.doc.v[wire_find(&w, 0, "upcoming_ms")].count, 5);
    expect(&w, "-ERR not a time: minute: not from 0 to 59 at '61'",
           "SCHEDULE.ADD x '61 * * * *' demo echo x");
    expect(&w, "-ERR not a time: 1 of 5 fields*", "SCHEDULE.ADD x '5' demo echo x");
    expect(&w, "-ERR not a time: '@never' is none of*", "SCHEDULE.ADD x @never demo echo x");
    expect(&w, "-ERR not a time: it never comes", "SCHEDULE.ADD x '0 0 31 2 *' demo echo x");
    expect(&w, "-ERR every is not a number of milliseconds from 100*",
           "SCHEDULE.ADD x EVERY 5 demo echo x");
    expect(&w, "-NOPOOL*", "SCHEDULE.ADD x @daily nosuch echo x");
    expect(&w, "-NOHANDLER*", "SCHEDULE.ADD x @daily demo nosuch x");
    expect(&w, "-ERR syntax error", "SCHEDULE.ADD x @daily demo echo x OVERLAP maybe");
    expect(&w, "-ERR a name has*", "SCHEDULE.ADD 'x y' @daily demo echo x");
    expect(&w, "-ERR a schedule's task has no UNIQUE*",
           "SCHEDULE.ADD x @daily demo echo x UNIQUE k ATTACH");
    expect(&w, "-ERR a schedule's task has no*", "SCHEDULE.ADD x @daily demo echo x OWNED");
    expect(&w, "-ERR STREAM needs RESP3*", "SCHEDULE.ADD x @daily demo echo x STREAM");
    expect(&w, "[[\"name\" \"nightly\"*]]", "SCHEDULE.LIST");
}

/* ---- those of the configuration ---- */

static const char one_pool[] = "pools = ( { name = \"one\"; workers = 1; exec = [ ]; timeout = 7;\n"
                               "    schedules = [ %s ]; } );\n"
                               "stop_timeout = 1;\n";

static void configured(void) {
    char text[1024];
    snprintf(text, sizeof(text), one_pool,
             "\"a: every 100ms run sh -c 'echo \\\"$0 $1\\\"' by clock\", \"b: @hourly run true\"");
    serve_begin(text);
    serve_connect(&w);
}

TestSuite(timetable_conf, .timeout = 60, .init = configured, .fini = end);

static void reload(const char *schedules) {
    char text[1024];
    snprintf(text, sizeof(text), one_pool, schedules);
    FILE *f = fopen(server.config, "w");
    cr_assert(f && fputs(text, f) >= 0);
    cr_assert_eq(fclose(f), 0);
    ask(&w, "CONFIG RELOAD");
}

Test(timetable_conf, run_come_and_go_with_it) {
    char id[SERVE_ID];
    reaches("a", "runs", 2);
    expect(&w, "[*\"configured\" \"yes\"*", "SCHEDULE.INFO a");
    cr_assert_eq(sscanf(wire_show_at(&w, wire_find(&w, 0, "last_task")), "\"%63[^\"]", id), 1);
    expect(&w, "[*\"done\" \"by clock\\n\"*", "TASK.WAIT %s", id);
    expect(&w, "-ERR schedule 'a' is the configuration's", "SCHEDULE.DEL a");
    expect(&w, "-ERR schedule 'a' is the configuration's",
           "SCHEDULE.ADD a @daily REPLACE one run ''");
    expect(&w, "+OK", "SCHEDULE.ADD mine @daily one run '' ARG true");
    /* one stays as it is, with its figures; one goes, one comes; a client's stays */
    reload(
        "\"a: every 100ms run sh -c 'echo \\\"$0 $1\\\"' by clock\", \"c: 5 4 * * sun run true\"");
    expect(&w,
           "[[\"name\" \"a\"*] [\"name\" \"c\" \"when\" \"5 4 * * sun\"*] [\"name\" \"mine\"*]]",
           "SCHEDULE.LIST");
    ask(&w, "SCHEDULE.INFO a");
    cr_assert(number("runs") >= 2);
    /* what is wrong changes nothing */
    reload("\"d: 61 * * * * run true\"");
    cr_assert(strstr(wire_show(&w), "minute: not from 0 to 59 at '61'"), "%s", wire_show(&w));
    expect(&w, "[[\"name\" \"a\"*] [\"name\" \"c\"*] [\"name\" \"mine\"*]]", "SCHEDULE.LIST");
    reload("");
    expect(&w, "[[\"name\" \"mine\"*]]", "SCHEDULE.LIST");
}
