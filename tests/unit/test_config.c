/* SPDX-License-Identifier: MIT */
/* The configuration: every refusal with its file, line, key and advice; drop-ins and includes; what
 * is printed reads back the same; and the documents (conf/hearthd.conf, man/hearthd.conf.5) agree
 * with the table of keys. */
#include "daemon/config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/cpu.h"
#include "lib/shm/segment.h"
#include "tests/support/tmp.h"

static char dir[TMP_PATH];

static void begin(void) {
    cr_assert_eq(tmp_dir(dir), 0);
    cr_assert_eq(tmp_write(dir, "ok.so", "x", 1), 0);
    setenv("HEARTH_MODULE_PATH", dir, 1);
}

static void end(void) {
    cr_assert_eq(tmp_remove(dir), 0);
}

TestSuite(config, .init = begin, .fini = end, .timeout = 30);

static int load_text(const char *text, struct config **ret, struct config_error *err) {
    return config_load_text(text, strlen(text), "t.conf", ret, err);
}

static void write_file(const char *name, const char *text) {
    cr_assert_eq(tmp_write(dir, name, text, strlen(text)), 0);
}

static const char *in_dir(const char *name) {
    static char path[TMP_PATH + 64];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

Test(config, no_file_gives_the_defaults) {
    struct config *c = NULL;
    struct config_error err;
    cr_assert_eq(config_load(NULL, &c, &err), 0, "%s", err.text);
    cr_assert_str_eq(c->socket_path, "/run/hearth/hearth.sock");
    cr_assert_eq(c->socket_mode, 0660);
    cr_assert_str_eq(c->socket_owner, "");
    cr_assert_eq(c->segment_size, 256u << 20);
    cr_assert_eq(c->stop_timeout_ms, 30000);
    cr_assert_eq(c->result_keep_ms, 300000);
    cr_assert_eq(c->log_level, LOG_LEVEL_INFO);
    cr_assert_eq(c->limits.max_clients, 10000);
    cr_assert_eq(c->n_pools, 0);
    cr_assert_eq(config_set_socket(c, "rel/sock"), 0);
    cr_assert_str_eq(c->socket_path, "rel/sock");
    char longer[200] = {0};
    memset(longer, 'x', sizeof(longer) - 1);
    cr_assert_eq(config_set_socket(c, longer), -ENAMETOOLONG);
    config_free(c);
}

Test(config, a_pool_has_its_values_and_the_defaults) {
    struct config *c = NULL;
    struct config_error err;
    cr_assert_eq(
        load_text("pools = (\n"
                  " { name = \"m\"; module = \"ok.so\"; args = [ \"a\", \"b c\" ]; timeout "
                  "= 0.25; kill_grace = 2;\n"
                  "   nice = -5; env = ( \"A=1\", \"B=\" ); rlimits = { as = \"1G\"; "
                  "nofile = 64; }; },\n"
                  " { name = \"e-2_x\"; exec = [ ]; workers = 7; max_tasks = "
                  "5000000000L; }\n);\n",
                  &c, &err),
        0, "%s", err.text);
    cr_assert_eq(c->n_pools, 2);
    const struct pool_config *m = &c->pools[0], *e = &c->pools[1];
    cr_assert_eq(m->kind, POOL_MODULE);
    cr_assert_eq(m->module[0], '/');
    cr_assert_str_eq(strrchr(m->module, '/'), "/ok.so");
    cr_assert_eq(m->workers, cpu_available());
    cr_assert_eq(m->args.n, 2);
    cr_assert_str_eq(m->args.v[1], "b c");
    cr_assert_null(m->args.v[2]);
    cr_assert_eq(m->timeout_ms, 250);
    cr_assert_eq(m->kill_grace_ms, 2000);
    cr_assert_eq(m->start_timeout_ms, 30000);
    cr_assert_eq(m->nice, -5);
    cr_assert_eq(m->env.n, 2);
    cr_assert_eq(m->rlimit[RLIMIT_AS], 1u << 30);
    cr_assert_eq(m->rlimit[RLIMIT_NOFILE], 64);
    cr_assert_eq(m->rlimit[RLIMIT_CORE], CONFIG_INHERIT);
    cr_assert_eq(m->queue_max, 65536);
    cr_assert_eq(m->queue_bytes, 0);
    cr_assert_eq(m->max_output, 64u << 20);
    cr_assert_eq(m->line, 2);
    cr_assert_eq(e->kind, POOL_EXEC);
    cr_assert_null(e->module);
    cr_assert_eq(e->exec.n, 0);
    cr_assert_null(e->exec.v[0]);
    cr_assert_eq(e->workers, 7);
    cr_assert_eq(e->max_tasks, 5000000000);
    config_free(c);
}

#define POOL(keys) "pools = (\n{ name = \"p\"; module = \"ok.so\"; " keys "} );"

static const struct refusal {
    const char *text;
    unsigned line;
    const char *key, *advice;
} refusals[] = {
    /* names */
    {"\nsockett = \"/x\";", 2, "sockett", "did you mean \"socket\""},
    {"workers = 1;", 1, "workers", "it belongs in a pool"},
    {"zzzzzzzz = 1;", 1, "zzzzzzzz", "the keys here are socket, socket_mode"},
    {"limits = { max_client = 1; };", 1, "limits.max_client", "\"max_clients\""},
    {POOL("wokers = 2;"), 2, "pools[0].wokers", "\"workers\""},
    {POOL("rlimits = { nofiles = 2; };"), 2, "pools[0].rlimits.nofiles", "\"nofile\""},
    {"tasks_max = 16;\ntasks_max = 17;", 2, "", "duplicate setting name"},
    /* types */
    {"segment_size = 268435456;", 1, "segment_size", "write segment_size = \"256M\""},
    {"segment_size = true;", 1, "segment_size", "found a boolean"},
    {"segment_size = \"12X\";", 1, "segment_size", "K, M, G or T"},
    {"segment_size = -1;", 1, "segment_size", "found an integer"},
    {"stop_timeout = \"5\";", 1, "stop_timeout", "a number of seconds"},
    {"tasks_max = 1.5;", 1, "tasks_max", "a whole number, found a number with a point"},
    {"socket = 5;", 1, "socket", "absolute path"},
    {"socket = \"x\";", 1, "socket", "absolute path"},
    {"socket_mode = \"999\";", 1, "socket_mode", "octal"},
    {"socket_mode = 660;", 1, "socket_mode", "octal"},
    {"socket_mode = \"7777\";", 1, "socket_mode", "octal"},
    {"socket_owner = \"no-such-user-here\";", 1, "socket_owner", "no user"},
    {"socket_group = \"no-such-group-here\";", 1, "socket_group", "no group"},
    {"admin_users = [ \"root\", \"no-such-user\" ];", 1, "admin_users[1]", "written with an @"},
    {"admin_users = [ \"@no-such-group\" ];", 1, "admin_users[0]", "no group"},
    {"admin_users = \"root\";", 1, "admin_users", "expected a list"},
    {"log_level = \"loud\";", 1, "log_level", "\"debug\""},
    {"limits = 5;", 1, "limits", "expected a group"},
    {"pools = { };", 1, "pools", "expected a list of pools"},
    {"pools = (\n5 );", 2, "pools[0]", "expected a pool"},
    {POOL("workers = \"many\";"), 2, "pools[0].workers", "\"auto\""},
    {POOL("args = \"a b\";"), 2, "pools[0].args", "no shell splits"},
    {POOL("args = [ 1 ];"), 2, "pools[0].args[0]", "a string"},
    {POOL("env = [ \"A\" ];"), 2, "pools[0].env[0]", "NAME=value"},
    {POOL("env = [ \"A=1\",\n \"2A=1\" ];"), 3, "pools[0].env[1]", "NAME=value"},
    {POOL("rlimits = { as = \"lots\"; };"), 2, "pools[0].rlimits.as", "not a size"},
    {POOL("rlimits = { cpu = \"lots\"; };"), 2, "pools[0].rlimits.cpu", "\"inherit\""},
    {POOL("working_directory = \"tmp\";"), 2, "pools[0].working_directory", "absolute"},
    /* ranges */
    {"segment_size = \"1K\";", 1, "segment_size", "\"4M\" to \"1T\""},
    {"segment_size = \"99999999T\";", 1, "segment_size", "out of range"},
    {"stop_timeout = -1;", 1, "stop_timeout", "0 to 86400 seconds"},
    {"stop_timeout = 1e999;", 1, "stop_timeout", "out of range"},
    {"limits = { max_clients = 0; };", 1, "limits.max_clients", "1 to 1000000"},
    {"tasks_max = 5;", 0, "tasks_max", "at least 16"},
    {POOL("workers = 0;"), 2, "pools[0].workers", "1 to 500"},
    {POOL("workers = 500; }, { name = \"q\"; exec = [ ]; workers = 1; "), 2, "pools", "501"},
    {POOL("sizing = \"big\";"), 2, "pools[0].sizing", "\"static\", \"dynamic\" or \"ondemand\""},
    {POOL("weights = [ \"root\" ];"), 2, "pools[0].weights[0]", "\"user:weight\""},
    {POOL("weights = [ \"root:0\" ];"), 2, "pools[0].weights[0]", "1 to 1000"},
    {POOL("weights = [ \"no such:3\" ];"), 2, "pools[0].weights[0]", "no user \"no such\""},
    {POOL("weights = [ \"*:3\" ];"), 2, "pools[0].weights[0]", "expected a user"},
    {POOL("overflow = \"drop\";"), 2, "pools[0].overflow",
     "\"reject\", \"block\" or \"drop_oldest\""},
    {POOL("\nmin = 2;"), 3, "pools[0].min", "min is for \"dynamic\""},
    {POOL("max = 2;"), 2, "pools[0].max", "for \"dynamic\" and \"ondemand\""},
    {POOL("sizing = \"dynamic\";\nworkers = 2;"), 3, "pools[0].workers", "write max ="},
    {POOL("sizing = \"ondemand\"; spare = 1;"), 2, "pools[0].spare", "is for \"dynamic\""},
    {POOL("sizing = \"dynamic\"; max = 2;\nmin = 3;"), 3, "pools[0].min",
     "min = 3 is more than max = 2"},
    {POOL("sizing = \"dynamic\"; max = 2; min = 1;\nspare = 3;"), 3, "pools[0].spare",
     "more than max = 2"},
    {POOL("sizing = \"dynamic\";\nmin = 500;"), 3, "pools[0].min", "(auto)"},
    {POOL("sizing = \"dynamic\"; idle_timeout = 0;"), 2, "pools[0].idle_timeout", "0.01 to 86400"},
    {"pools = ( { name = \"t\"; exec = [ ];\nthreads = 2; } );", 2, "pools[0].threads",
     "for modules"},
    {POOL("threads = 65;"), 2, "pools[0].threads", "1 to 64"},
    {POOL("workers = 100; threads = 6;"), 2, "pools", "600 workers and threads"},
    {POOL("nice = 40;"), 2, "pools[0].nice", "-40 to 39"},
    {POOL("start_timeout = 0;"), 2, "pools[0].start_timeout", "0.001 to 86400"},
    {"tasks_max =\n5000000000;", 2, "", "5000000000 is too large"},
    {"tasks_max = 0x80000000;", 1, "", "too large"},
    {"tasks_max = 99999999999999999999L;", 1, "", "too large"},
    /* pools as a whole */
    {"pools = ( { exec = [ ]; } );", 1, "pools[0]", "needs a name"},
    {"pools = ( { name = \"Big\"; exec = [ ]; } );", 1, "pools[0].name", "a-z, 0-9"},
    {"pools = ( { name = \"\"; exec = [ ]; } );", 1, "pools[0].name", "1 to 32"},
    {"pools = ( { name = \"x\"; } );", 1, "pools[0]", "none of them"},
    {POOL("exec = [ ];"), 2, "pools[0].exec", "two of them"},
    {"pools = ( { name = \"x\"; exec = [ ]; args = [ \"a\" ]; } );", 1, "pools[0].args",
     "words in exec"},
    {POOL("},\n { name = \"p\"; exec = [ ]; "), 3, "pools[1].name", "already, at t.conf:2"},
    {"pools = ( { name = \"x\"; module = \"no.so\"; } );", 1, "pools[0].module", "no.so"},
    {"pools = ( { name = \"x\"; module = \"/no.so\"; } );", 1, "pools[0].module", "No such file"},
    {"pools = ( { name = \"x\"; module = \"/usr\"; } );", 1, "pools[0].module", "Is a directory"},
    {"pools = ( { name = \"x\"; module = \"a/b.so\"; } );", 1, "pools[0].module", "without /"},
    {"pools = ( { name = \"x\"; exec = [ \"no-such-command-here\" ]; } );", 1, "pools[0].exec[0]",
     "No such file"},
    {"pools = ( { name = \"x\"; exec = [ \"/etc/passwd\" ]; } );", 1, "pools[0].exec[0]",
     "Permission denied"},
    {"pools = ( { name = \"x\"; exec = [ \"./a\" ]; } );", 1, "pools[0].exec[0]", "$PATH"},
    /* the grammar */
    {"a = ;", 1, "", "syntax error"},
    {"# c\n\nsocket = \"/x", 3, "", "string begins here"},
    {"/* \n", 1, "", "comment begins here"},
    {"((((((((((((((((((((((((((((((((((((((((((", 1, "", "nested"},
    {"\n@include \"x.conf\"\n", 2, "", "@include"},
};

Test(config, every_refusal_has_its_place_and_advice) {
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        const struct refusal *x = &refusals[i];
        struct config *c = NULL;
        struct config_error err;
        cr_assert_eq(load_text(x->text, &c, &err), -EINVAL, "accepted: %s", x->text);
        cr_assert_null(c);
        cr_expect_str_eq(err.file, "t.conf", "%s", x->text);
        cr_expect_eq(err.line, x->line, "line %u: %s", err.line, x->text);
        cr_expect_str_eq(err.key, x->key, "%s", x->text);
        cr_expect(strstr(err.text, x->advice), "\"%s\" for: %s", err.text, x->text);
    }
}

Test(config, a_nul_byte_is_refused) {
    struct config *c = NULL;
    struct config_error err;
    cr_assert_eq(config_load_text("\ntasks_max = 16;\0x", 18, "t.conf", &c, &err), -EINVAL);
    cr_assert_eq(err.line, 2);
    cr_assert(strstr(err.text, "NUL"));
}

Test(config, too_many_pools_are_refused) {
    struct buf text = BUF_INIT;
    buf_printf(&text, "pools = ( ");
    for (int i = 0; i <= SHM_POOLS; i++) {
        buf_printf(&text, "%s\n{ name = \"p%d\"; exec = [ ]; workers = 1; }", i ? "," : "", i);
    }
    buf_append(&text, " );", 4);
    struct config *c = NULL;
    struct config_error err;
    cr_assert_eq(load_text(buf_head(&text), &c, &err), -EINVAL);
    cr_assert_str_eq(err.key, "pools[64]");
    cr_assert_eq(err.line, 66);
    buf_deinit(&text);
}

Test(config, the_error_for_people_has_all_its_parts) {
    char out[256];
    struct config_error err = {.file = "a.conf", .line = 3, .key = "k", .text = "bad"};
    cr_assert_str_eq(config_error_format(&err, out, sizeof(out)), "a.conf:3: k: bad");
    err.line = 0;
    err.key[0] = '\0';
    cr_assert_str_eq(config_error_format(&err, out, sizeof(out)), "a.conf: bad");
}

Test(config, drop_ins_override_and_add) {
    write_file("h.conf", "log_level = \"debug\"; tasks_max = 100;\n"
                         "limits = { max_clients = 5; client_max_tasks = 6; };\n"
                         "pools = ( { name = \"a\"; exec = [ ]; } );\n");
    cr_assert_eq(mkdir(in_dir("h.conf.d"), 0700), 0);
    write_file("h.conf.d/20.conf", "tasks_max = 300; pools = ( { name = \"c\"; exec = [ ]; } );\n");
    write_file("h.conf.d/10.conf", "tasks_max = 200; limits = { max_clients = 7; };\n"
                                   "pools = ( { name = \"b\"; exec = [ ]; } );\n");
    write_file("h.conf.d/30.conf~", "not = read;");
    write_file("h.conf.d/.hidden.conf", "not = read;");
    struct config *c = NULL;
    struct config_error err;
    cr_assert_eq(config_load(in_dir("h.conf"), &c, &err), 0, "%s", err.text);
    cr_assert_eq(c->log_level, LOG_LEVEL_DEBUG);
    cr_assert_eq(c->tasks_max, 300);
    cr_assert_eq(c->limits.max_clients, 7);
    cr_assert_eq(c->limits.client_max_tasks, 6);
    cr_assert_eq(c->n_pools, 3);
    cr_assert_str_eq(c->pools[1].name, "b");
    cr_assert_str_eq(c->pools[2].name, "c");
    cr_assert_str_eq(c->pools[2].file, in_dir("h.conf.d/20.conf"));
    cr_assert_str_eq(c->files[1], in_dir("h.conf.d/10.conf"));
    config_free(c);

    write_file("h.conf.d/40.conf", "\n\npools = ( { name = \"b\"; exec = [ ]; } );\n");
    cr_assert_eq(config_load(in_dir("h.conf"), &c, &err), -EINVAL);
    cr_assert_str_eq(err.file, in_dir("h.conf.d/40.conf"));
    cr_assert_eq(err.line, 3);
    cr_assert(strstr(err.text, in_dir("h.conf.d/10.conf:2")), "%s", err.text);
}

Test(config, includes_are_read_and_their_mistakes_are_theirs) {
    struct config *c = NULL;
    struct config_error err;
    write_file("main.conf", "tasks_max = 64;\n@include \"part.inc\"\nlog_level = \"err\";\n");
    write_file("part.inc", "result_keep = 5;\nstop_timeout = 6;\n");
    cr_assert_eq(config_load(in_dir("main.conf"), &c, &err), 0, "%s", err.text);
    cr_assert_eq(c->result_keep_ms, 5000);
    cr_assert_eq(c->log_level, LOG_LEVEL_ERR);
    config_free(c);

    static const struct {
        const char *part;
        unsigned line;
        const char *advice;
    } bad[] = {
        {"\nresult_keep = \"x\";\n", 2, "seconds"},
        {"result_keep = 5;\n\nresultkeep = 5;\n", 3, "\"result_keep\""},
        {"result_keep = 5000000000;\n", 1, "too large"},
        {"result_keep == 5;\n", 1, "syntax error"},
        {"# c\n@include \"main.conf\"\n", 2, "include"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        write_file("part.inc", bad[i].part);
        cr_assert_eq(config_load(in_dir("main.conf"), &c, &err), -EINVAL);
        cr_expect_eq(err.line, bad[i].line, "line %u: %s", err.line, bad[i].part);
        cr_expect(strstr(err.text, bad[i].advice), "%s", err.text);
        if (i < 4) {
            cr_expect_str_eq(err.file, in_dir("part.inc"));
        }
    }
}

Test(config, an_include_that_cannot_be_read_is_an_error_not_an_exit) {
    struct config *c = NULL;
    struct config_error err;
    write_file("main.conf", "\n@include \"sub\"\n");
    cr_assert_eq(config_load(in_dir("main.conf"), &c, &err), -ENOENT);
    cr_assert_eq(err.line, 2);
    cr_assert_eq(mkdir(in_dir("sub"), 0700), 0);
    cr_assert_eq(config_load(in_dir("main.conf"), &c, &err), -EISDIR);
    cr_assert_str_eq(err.file, in_dir("main.conf"));
    cr_assert_eq(err.line, 2);
    cr_assert(strstr(err.text, "Is a directory"));
    write_file("main.conf", "@include \"/etc/passwd\"\n");
    cr_assert_eq(config_load(in_dir("main.conf"), &c, &err), -EINVAL);
    cr_assert(strstr(err.text, "relative"));
}

Test(config, a_file_that_is_absent_a_directory_or_huge) {
    struct config *c = NULL;
    struct config_error err;
    cr_assert_eq(config_load(in_dir("none.conf"), &c, &err), -ENOENT);
    cr_assert_str_eq(err.file, in_dir("none.conf"));
    cr_assert_eq(config_load(dir, &c, &err), -EISDIR);
    char *huge = malloc((1 << 20) + 1);
    memset(huge, '\n', (1 << 20) + 1);
    cr_assert_eq(tmp_write(dir, "huge.conf", huge, (1 << 20) + 1), 0);
    free(huge);
    cr_assert_eq(config_load(in_dir("huge.conf"), &c, &err), -EFBIG);
    cr_assert(strstr(err.text, "1 MiB"));
}

/* Inlined, gcc 12 believes that the stream still has the address of `text`. */
__attribute__((noinline)) static char *print(const struct config *c) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    config_print(c, f);
    fclose(f);
    return text;
}

Test(config, what_is_printed_reads_back_the_same) {
    struct config *a = NULL, *b = NULL;
    struct config_error err;
    cr_assert_eq(load_text("segment_size = \"33K\";", &a, &err), -EINVAL);
    cr_assert_eq(
        load_text("segment_size = \"5000K\"; stop_timeout = 0.125; socket_mode = \"0600\";\n"
                  "pools = (\n{ name = \"m\"; module = \"ok.so\"; args = [ \"q\\\"\\\\\\x01\\n\" "
                  "]; nice = -3;"
                  "rlimits = { as = \"3G\"; cpu = 7; nproc = 9; }; env = [ \"A=b c\" ]; },\n"
                  "{ name = \"e\"; exec = [ \"/bin/sh\", \"-c\" ]; max_tasks = "
                  "9000000000L; kill_grace = 0; },\n"
                  "{ name = \"d\"; exec = [ ]; sizing = \"dynamic\"; min = 2; spare = 3; max = 9; "
                  "spawn_rate = 4; idle_timeout = 0.5; },\n"
                  "{ name = \"o\"; exec = [ ]; sizing = \"ondemand\"; max = 4; } );\n",
                  &a, &err),
        0, "%s", err.text);
    _cleanup_free_ char *one = print(a);
    cr_assert_eq(config_load_text(one, strlen(one), "t.conf", &b, &err), 0, "%u: %s", err.line,
                 err.text);
    cr_assert_str_eq(b->pools[0].args.v[0], "q\"\\\x01\n");
    cr_assert_eq(b->segment_size, 5000 << 10);
    cr_assert_eq(b->pools[1].max_tasks, 9000000000);
    cr_assert(b->pools[2].min == 2 && b->pools[2].max == 9 && b->pools[2].spare == 3);
    cr_assert(b->pools[2].workers == 9 && b->pools[2].idle_timeout_ms == 500);
    cr_assert(b->pools[3].min == 0 && b->pools[3].max == 4 && b->pools[3].spare == 0);
    b->pools[0].line = a->pools[0].line; /* shown in a comment */
    for (uint32_t i = 1; i < a->n_pools; i++) {
        b->pools[i].line = a->pools[i].line;
    }
    _cleanup_free_ char *two = print(b);
    cr_assert_str_eq(one, two);
    config_free(a);
    config_free(b);
}

/* ---- the documents ---- */

static char *read_source(const char *name) {
    char path[PATH_MAX], *text = NULL;
    size_t n;
    snprintf(path, sizeof(path), "%s/%s", getenv("HEARTH_SOURCE"), name);
    cr_assert_eq(tmp_read(path, &text, &n), 0, "%s", path);
    return text;
}

/* A line of text that, after spaces, begins with `head` and goes on with `tail`. */
static bool has_line(const char *text, const char *head, const char *tail) {
    for (const char *p = text; p && *p; p = strchr(p, '\n')) {
        p += strspn(p, " \n");
        if (!strncmp(p, head, strlen(head)) && !strncmp(p + strlen(head), tail, strlen(tail))) {
            return true;
        }
    }
    return false;
}

Test(config, hearthd_conf_shows_every_key_with_its_default) {
    _cleanup_free_ char *text = read_source("conf/hearthd.conf");
    const struct config_key *k;
    for (unsigned i = 0; (k = config_key(i)); i++) {
        char head[80], tail[80] = "";
        snprintf(head, sizeof(head), "#%s = ", k->name);
        if (k->fallback) {
            snprintf(tail, sizeof(tail), "%s;\n", k->fallback);
        }
        cr_expect(has_line(text, head, tail), "%s%s", head, tail);
    }
}

Test(config, hearthd_conf_is_valid_as_it_is_and_with_every_line_in_force) {
    _cleanup_free_ char *text = read_source("conf/hearthd.conf");
    struct config *c = NULL;
    struct config_error err;
    cr_assert_eq(load_text(text, &c, &err), 0, "%u: %s", err.line, err.text);
    _cleanup_free_ char *defaults = print(c);
    config_free(c);
    cr_assert_eq(tmp_write(dir, "text.so", "x", 1), 0);
    for (char *p = text; *p; p++) { /* "#word" is a setting, "# word" is prose */
        if (*p == '#' && p[1] != ' ' && p[1] != '\n' && p[1] != '#') {
            *p = ' ';
        }
    }
    cr_assert_eq(load_text(text, &c, &err), 0, "%u: %s %s", err.line, err.key, err.text);
    cr_assert_eq(c->n_pools, 3);
    _cleanup_free_ char *all = print(c);
    size_t same = (size_t)(strstr(defaults, "pools = ") - defaults);
    cr_assert_eq(memcmp(all, defaults, same), 0);
    config_free(c);
}

/* `.BR key " (type, default X)"`, without the quotes of strings. */
Test(config, the_man_page_shows_every_key_with_type_and_default) {
    _cleanup_free_ char *text = read_source("man/hearthd.conf.5");
    const struct config_key *k;
    for (unsigned i = 0; (k = config_key(i)); i++) {
        struct buf line = BUF_INIT;
        const char *fallback = k->fallback && !strcmp(k->fallback, "\"\"") ? "empty" : k->fallback;
        buf_printf(&line, " (%s%s%s)", k->type, fallback ? ", default " : "",
                   fallback ? fallback : "");
        char plain[200] = "\"";
        size_t n = 1;
        for (size_t j = 0; j < buf_len(&line) && n < sizeof(plain) - 3; j++) {
            if (buf_head(&line)[j] != '"') {
                plain[n++] = buf_head(&line)[j];
            }
        }
        memcpy(plain + n, "\"\n", 3);
        buf_deinit(&line);
        char head[80];
        snprintf(head, sizeof(head), ".BR %s ", k->name);
        cr_expect(has_line(text, head, plain), "%s%s", head, plain);
    }
}

/* The lines after `.\" when: RESTART` and ROLL name the keys that the table says. */
Test(config, the_man_page_says_when_a_new_value_counts) {
    static const struct {
        const char *head;
        enum config_when when;
    } lists[] = {{".\\\" when: RESTART\n.B ", CONFIG_RESTART},
                 {".\\\" when: ROLL\n.B ", CONFIG_ROLL}};
    _cleanup_free_ char *text = read_source("man/hearthd.conf.5");
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        struct buf keys = BUF_INIT;
        const struct config_key *k;
        for (unsigned j = 0; (k = config_key(j)); j++) {
            if (k->when == lists[i].when) {
                buf_printf(&keys, "%s%s", buf_len(&keys) ? " " : "", k->name);
            }
        }
        buf_printf(&keys, "\n");
        const char *at = strstr(text, lists[i].head);
        cr_assert(at);
        at += strlen(lists[i].head);
        cr_expect(strncmp(at, buf_head(&keys), buf_len(&keys)) == 0, "%.*s", (int)buf_len(&keys),
                  buf_head(&keys));
        buf_deinit(&keys);
    }
}

Test(config, sample_conf_names_its_pools) {
    static const char *const modules[] = {"demo.so", "text.so", "compress.so"};
    static const char *const pools[] = {"demo", "text", "compress", "shell"};
    for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
        write_file(modules[i], "x");
    }
    _cleanup_free_ char *text = read_source("conf/sample.conf");
    struct config *c = NULL;
    struct config_error err;
    cr_assert_eq(load_text(text, &c, &err), 0, "%u: %s", err.line, err.text);
    cr_assert_eq(c->n_pools, ARRAY_SIZE(pools));
    for (size_t i = 0; i < ARRAY_SIZE(pools); i++) {
        cr_assert_str_eq(c->pools[i].name, pools[i]);
    }
    cr_assert_eq(c->pools[0].workers, 2);
    cr_assert_eq(c->pools[3].kind, POOL_EXEC);
    cr_assert_eq(c->pools[3].exec.n, 0);
    config_free(c);
}
