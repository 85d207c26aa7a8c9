/* SPDX-License-Identifier: MIT */
/* INFO, TIME, FUNCTION: the daemon as a whole, laid out as Redis lays it out so that tools
 * made for Redis can read it. redis_version tells them which dialect we speak; hearth_version is
 * ours.
 *
 * Fails: replies. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "daemon/serve/dispatch.h"
#include "lib/base/glob.h"
#include "daemon/serve/keyspace.h"
#include "daemon/serve/metrics.h"
#include "daemon/serve/pubsub.h"
#include "daemon/serve/reply.h"
#include "daemon/serve/roles.h"
#include "lib/base/clock.h"
#include "lib/shm/account.h"
#include "lib/shm/keys.h"

#define REDIS_VERSION "7.0.15"

typedef unsigned long long ull;

enum { WORDS_MAX = 1024 }; /* of INFO */

/* ---- INFO ---- */

static int info_server(struct serve *s, struct buf *b) {
    uint64_t up = (clock_now() - s->d->started_ns) / NS_PER_SEC;
    return buf_printf(
        b,
        "# Server\r\nredis_version:" REDIS_VERSION
        "\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\nhearth_version:" HEARTH_VERSION
        "\r\nredis_mode:standalone\r\nos:Linux\r\narch_bits:%d\r\n"
        "process_id:%d\r\ntcp_port:0\r\nserver_time_usec:%llu\r\n"
        "uptime_in_seconds:%llu\r\nuptime_in_days:%llu\r\n"
        "config_file:%s\r\nconfig_reloads:%llu\r\nconfig_last_reload_status:%s\r\n"
        "config_last_error:%s\r\nloop_turns:%llu\r\n",
        (int)sizeof(void *) * 8, (int)getpid(), (ull)clock_wall_ms() * 1000, (ull)up,
        (ull)up / 86400,
        s->d->config->files && s->d->config->files[0] ? s->d->config->files[0] : "",
        (ull)s->d->reloads, s->d->reload_error ? "err" : "ok",
        s->d->reload_error ? s->d->reload_error : "", (ull)s->d->turns);
}

static int info_clients(struct serve *s, struct buf *b) {
    uint32_t blocked = 0, pubsub = 0;
    list_for_each (it, &s->conns) {
        const struct conn *c = list_entry(it, struct conn, node);
        blocked += c->block != BLOCK_NONE;
        pubsub += pubsub_count(c) > 0;
    }
    return buf_printf(b,
                      "# Clients\r\nconnected_clients:%u\r\ncluster_connections:0\r\n"
                      "maxclients:%u\r\nblocked_clients:%u\r\ntracking_clients:0\r\n"
                      "pubsub_clients:%u\r\naccepting_paused:%d\r\n",
                      s->n_conns, s->d->config->limits.max_clients, blocked, pubsub, s->paused);
}

static uint64_t resident_bytes(void) {
    unsigned long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%lu %lu", &size, &resident) != 2) {
            resident = 0;
        }
        fclose(f);
    }
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int info_memory(struct serve *s, struct buf *b) {
    struct shm_usage u;
    shm_usage(&s->d->shm, &u);
    uint64_t used = (u.chunks - u.chunks_free) * u.chunk_bytes;
    uint64_t rss = resident_bytes();
    return buf_printf(
        b,
        "# Memory\r\nused_memory:%llu\r\nused_memory_rss:%llu\r\nmaxmemory:%llu\r\n"
        "maxmemory_policy:noeviction\r\nmem_clients_normal:%llu\r\nsegment_size:%llu\r\n"
        "segment_used:%llu\r\nsegment_free:%llu\r\ntask_records:%u\r\n",
        (ull)used, (ull)rss, (ull)u.size, (ull)s->charged, (ull)u.size, (ull)used,
        (ull)(u.chunks_free * u.chunk_bytes), u.tasks);
}

static int info_persistence(struct serve *s, struct buf *b) {
    (void)s;
    return buf_printf(b, "# Persistence\r\nloading:0\r\nasync_loading:0\r\n"
                         "rdb_bgsave_in_progress:0\r\naof_enabled:0\r\n");
}

static int info_stats(struct serve *s, struct buf *b) {
    return buf_printf(
        b,
        "# Stats\r\ntotal_connections_received:%llu\r\n"
        "total_commands_processed:%llu\r\ntotal_net_input_bytes:%llu\r\n"
        "total_net_output_bytes:%llu\r\nrejected_connections:%llu\r\n"
        "total_error_replies:%llu\r\nclient_output_buffer_limit_disconnections:%llu"
        "\r\nprotocol_errors:%llu\r\nlock_timeouts:%llu\r\nexpired_keys:%llu\r\nevicted_keys:0\r\n"
        "keyspace_hits:%llu\r\nkeyspace_misses:%llu\r\n",
        (ull)s->accepted, (ull)s->commands, (ull)s->bytes_in, (ull)s->bytes_out, (ull)s->refused,
        (ull)s->errors, (ull)s->closed_output, (ull)s->closed_protocol, (ull)s->lock_timeouts,
        (ull)keyspace_expired(s), (ull)s->hits, (ull)s->misses);
}

static int info_replication(struct serve *s, struct buf *b) {
    (void)s;
    return buf_printf(b, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
                         "master_repl_offset:0\r\n");
}

static int info_cpu(struct serve *s, struct buf *b) {
    (void)s;
    struct rusage me = {0}, children = {0};
    getrusage(RUSAGE_SELF, &me);
    getrusage(RUSAGE_CHILDREN, &children);
    return buf_printf(b,
                      "# CPU\r\nused_cpu_sys:%ld.%06ld\r\nused_cpu_user:%ld.%06ld\r\n"
                      "used_cpu_sys_children:%ld.%06ld\r\nused_cpu_user_children:%ld.%06ld\r\n",
                      (long)me.ru_stime.tv_sec, (long)me.ru_stime.tv_usec, (long)me.ru_utime.tv_sec,
                      (long)me.ru_utime.tv_usec, (long)children.ru_stime.tv_sec,
                      (long)children.ru_stime.tv_usec, (long)children.ru_utime.tv_sec,
                      (long)children.ru_utime.tv_usec);
}

static int info_commandstats(struct serve *s, struct buf *b) {
    int r = buf_printf(b, "# Commandstats\r\n");
    for (int i = 0; i < COMMAND_COUNT_OF && r >= 0; i++) {
        char name[64];
        if (s->calls[i] > 0 || s->rejected[i] > 0) {
            r = buf_printf(b, "cmdstat_%s:calls=%llu,rejected_calls=%llu,failed_calls=%llu\r\n",
                           dispatch_lower(name, commands[i].name), (ull)s->calls[i],
                           (ull)s->rejected[i], (ull)s->failed[i]);
        }
    }
    return r;
}

static int info_cluster(struct serve *s, struct buf *b) {
    (void)s;
    return buf_printf(b, "# Cluster\r\ncluster_enabled:0\r\n");
}

static int info_keyspace(struct serve *s, struct buf *b) {
    uint64_t keys = keys_count(&s->d->shm);
    int r = buf_printf(b, "# Keyspace\r\n");
    if (r >= 0 && keys > 0) {
        r = buf_printf(b, "db0:keys=%llu,expires=%llu,avg_ttl=0\r\n", (ull)keys,
                       (ull)keys_expiring(&s->d->shm));
    }
    return r;
}

/* What each user has in the keyspace, and may have (0: no limit). */
static int info_accounts(struct serve *s, struct buf *b) {
    struct account_view v;
    int r = buf_printf(b, "# Accounts\r\n");
    for (unsigned i = 0; i < SHM_ACCOUNTS && r >= 0; i++) {
        if (account_view(&s->d->shm, i, &v)) {
            const struct user *u = users_at(s->d->users, users_place(s->d->users, v.uid));
            r = buf_printf(b,
                           "user_%u:%sobjects=%llu,bytes=%llu,max_objects=%llu,max_bytes=%llu,"
                           "clients=%u,tasks=%u,task_bytes=%llu,results=%u\r\n",
                           (unsigned)v.uid, v.shared ? "shared=1," : "", (ull)v.objects,
                           (ull)v.bytes, (ull)v.max_objects, (ull)v.max_bytes, u->clients, u->tasks,
                           (ull)u->task_bytes, u->results);
        }
    }
    return r;
}

static const struct info_section {
    const char *name;
    bool usual; /* in INFO without arguments */
    int (*put)(struct serve *s, struct buf *b);
} sections[] = {
    {"server", true, info_server},
    {"clients", true, info_clients},
    {"memory", true, info_memory},
    {"persistence", true, info_persistence},
    {"stats", true, info_stats},
    {"replication", true, info_replication},
    {"cpu", true, info_cpu},
    {"commandstats", false, info_commandstats},
    {"cluster", true, info_cluster},
    {"keyspace", true, info_keyspace},
    {"tasks", true, metrics_info_tasks},
    {"sync", true, metrics_info_sync},
    {"pools", true, metrics_info_pools},
    {"accounts", true, info_accounts},
};

static bool section_wanted(const struct info_section *s, const struct resp_arg *argv,
                           uint32_t argc) {
    bool wanted = argc == 1 && s->usual;
    for (uint32_t i = 1; i < argc; i++) {
        wanted |= resp_is(&argv[i], s->name) || resp_is(&argv[i], "all") ||
                  resp_is(&argv[i], "everything") || (s->usual && resp_is(&argv[i], "default"));
    }
    return wanted;
}

/* Each word is tried for each section or key. */
static bool too_many(struct conn *c, uint32_t n) {
    if (n > WORDS_MAX) {
        reply_errorf(c, "ERR at most %d names", WORDS_MAX);
        return true;
    }
    return false;
}

int cmd_INFO(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    struct buf b = BUF_INIT;
    int r = 0;
    if (too_many(c, argc - 1)) {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(sections) && r >= 0; i++) {
        if (section_wanted(&sections[i], argv, argc)) {
            r = buf_len(&b) > 0 ? buf_append(&b, "\r\n", 2) : 0;
            r = r < 0 ? r : sections[i].put(c->serve, &b);
        }
    }
    if (r < 0) {
        reply_error(c, "OOM the daemon is out of memory");
    } else {
        reply_verbatim(c, &b);
    }
    buf_deinit(&b);
    return 0;
}

/* ---- DEBUG ---- */

static int debug_active_expire(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argc;
    if (argv[2].len != 1 || (argv[2].data[0] != '0' && argv[2].data[0] != '1')) {
        reply_syntax(c);
        return 0;
    }
    keyspace_set_active(c->serve, argv[2].data[0] == '1');
    reply_ok(c);
    return 0;
}

static int debug_help(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    static const char *const lines[] = {
        "SET-ACTIVE-EXPIRE <0|1>",
        "    Whether expired keys that nobody asks for are looked for and removed.",
        NULL,
    };
    reply_help(c, "DEBUG", lines);
    return 0;
}

int cmd_DEBUG(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static const struct subcommand table[] = {
        {"SET-ACTIVE-EXPIRE", 3, debug_active_expire},
        {"HELP", 2, debug_help},
        {NULL, 0, NULL},
    };
    return dispatch_sub(c, "DEBUG", table, argv, argc);
}

/* ---- the rest ---- */

int cmd_TIME(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    reply_array(c, 2);
    reply_textf(c, "%lld", (long long)ts.tv_sec);
    reply_textf(c, "%ld", ts.tv_nsec / 1000);
    return 0;
}

static int function_list(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    bool code = false, name = false;
    for (uint32_t i = 2; i < argc; i++) {
        if (!code && resp_is(&argv[i], "WITHCODE")) {
            code = true;
        } else if (!name && resp_is(&argv[i], "LIBRARYNAME")) {
            if (++i == argc) {
                reply_error(c, "ERR library name argument was not given");
                return 0;
            }
            name = true;
        } else {
            reply_errorf(c, "ERR Unknown argument %.*s",
                         (int)strnlen(argv[i].data, argv[i].len < 128 ? argv[i].len : 128),
                         argv[i].data);
            return 0;
        }
    }
    reply_array(c, 0);
    return 0;
}

static int function_flush(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    if (argc > 3) {
        reply_sub_syntax(c, "FUNCTION", &argv[1]);
    } else if (argc == 3 && !resp_is(&argv[2], "ASYNC") && !resp_is(&argv[2], "SYNC")) {
        reply_error(c, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
    } else {
        reply_ok(c);
    }
    return 0;
}

static int function_help(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    (void)argv;
    (void)argc;
    static const char *const lines[] = {
        "LIST",  "    Return an empty list: no functions are ever loaded.",
        "FLUSH", "    Do nothing.",
        NULL,
    };
    reply_help(c, "FUNCTION", lines);
    return 0;
}

int cmd_FUNCTION(struct conn *c, const struct resp_arg *argv, uint32_t argc) {
    static const struct subcommand table[] = {
        {"LIST", -2, function_list},
        {"FLUSH", -2, function_flush},
        {"HELP", 2, function_help},
        {NULL, 0, NULL},
    };
    return dispatch_sub(c, "FUNCTION", table, argv, argc);
}
