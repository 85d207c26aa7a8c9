/* SPDX-License-Identifier: MIT */
/* The table of commands: a name here is a command, its help, its options and what completion offers
 * (the test test_ctl.sh holds hearth.bash against `hearth help --names`).
 *
 * Fails: never; it is data. */
#include "client/ctl/ctl.h"

static const struct ctl_option run_options[] = {
    {"in", 'i', "FILE", "the payload is this file's content (- for standard input)"},
    {"timeout", 't', "TIME", "time limit of the run: 500ms, 2s, 1.5m (plain numbers: seconds)"},
    CTL_TASK_OPTIONS,
    CTL_KEY_OPTIONS,
    CTL_ONE_OPTIONS,
    {0},
};
static const struct ctl_option call_options[] = {
    {"in", 'i', "FILE", "the payload is this file's content (- for standard input)"},
    {"timeout", 't', "TIME", "time limit of the run: 500ms, 2s, 1.5m (plain numbers: seconds)"},
    {"stream", CTL_STREAM, NULL, "write what the task tells as it comes"},
    CTL_TASK_OPTIONS,
    CTL_KEY_OPTIONS,
    CTL_ONE_OPTIONS,
    {0},
};
static const struct ctl_option log_options[] = {
    {"follow", 'f', NULL, "go on until the task has ended; the exit status tells how"},
    {0},
};
static const struct ctl_option wait_options[] = {
    {"any", 'a', NULL, "return when the first of them has ended"},
    {"timeout", 't', "TIME", "wait no longer than this (exit status 9)"},
    {0},
};
static const struct ctl_option map_options[] = {
    {"files", 'f', NULL, "the lines of standard input are names of files"},
    {"null", '0', NULL, "standard input is separated by NUL bytes, not by lines"},
    {"ordered", 'k', NULL, "print results in the order of the input"},
    {"out", 'o', "DIR", "write each result to DIR/NAME.out instead of printing it"},
    {"plain", 'p', NULL, "print results without the name before each line"},
    {"split", CTL_SPLIT, NULL,
     "the daemon splits the input into tasks of many lines; results in order"},
    {"chunk", CTL_CHUNK, "N",
     "with --split: lines for each task (default: 4 tasks for each worker)"},
    {"jobs", 'j', "N", "tasks in the daemon at a time (default 64)"},
    {"arg", 'a', "ARG", "an argument for the handler; may be repeated"},
    {"timeout", 't', "TIME", "time limit of each run: 500ms, 2s, 1.5m"},
    CTL_TASK_OPTIONS,
    CTL_KEY_OPTIONS,
    {"summary", 'S', NULL, "end with a table of figures (default on a terminal)"},
    {"quiet", 'q', NULL, "no progress bar, no summary"},
    {0},
};
static const struct ctl_option tasks_options[] = {
    {"pool", 'p', "POOL", "only tasks of this pool"},
    {"state", 'S', "STATE",
     "waiting, queued, running, done, failed, lost, timeout, cancelled or expired"},
    {"count", 'n', "N", "at most N tasks (default 100)"},
    {0},
};
static const struct ctl_option pool_options[] = {
    {"pool", 'p', "POOL", "only workers of this pool"},
    {0},
};
static const struct ctl_option ping_options[] = {
    {"count", 'n', "N", "ping N times and show the spread (default 1)"},
    {0},
};
static const struct ctl_option list_options[] = {
    {"left", 'l', NULL, "push: before the first; move: to the front of the other list"},
    {"right", 'r', NULL, "pop and move: take the last"},
    {"wait", 'w', "TIME", "pop: wait so long for an element (or: forever; exit status 9)"},
    {0},
};
static const struct ctl_option set_options[] = {
    {"ttl", 't', "TIME", "it vanishes after this time"},
    {"new", 'n', NULL, "only if there is no such name (exit status 1)"},
    {"replace", 'x', NULL, "only if there is one (exit status 1)"},
    {"keep", 'k', NULL, "the time it has left stays"},
    {0},
};
static const struct ctl_option load_options[] = {
    {"replace", 'r', NULL, "objects that exist are replaced"},
    {0},
};
static const struct ctl_option keys_options[] = {
    {"long", 'L', NULL, "with type and time left"},
    {0},
};
static const struct ctl_option events_options[] = {
    {"follow", 'f', NULL, "go on with what happens from now on, until Ctrl-C"},
    {"type", 't', "TYPE", "only events of task, worker, pool, schedule or proc"},
    {"count", 'n', "N", "begin with the last N (default 100; with -f 10)"},
    {"from", 'F', "SEQ", "begin with this event, by its number (seq with --json)"},
    {0},
};
static const struct ctl_option top_options[] = {
    {"once", 'o', NULL, "print one look, without a terminal"},
    {"delay", 'd', "TIME", "time between two looks (default 1s)"},
    {0},
};
static const struct ctl_option schedule_options[] = {
    {"in", 'i', "FILE", "add: the payload is this file's content (- for standard input)"},
    {"timeout", 't', "TIME", "add: time limit of each run"},
    {"replace", 'r', NULL, "add: in place of one of this name"},
    {"misfire", 'm', "WHAT", "add: skip, once or all of the times that were missed (default skip)"},
    {"overlap", 'o', NULL, "add: also while the last task still runs"},
    CTL_TASK_OPTIONS,
    {0},
};
static const struct ctl_option proc_options[] = {
    {"name", 'n', "NAME", "start, run: its name, one process's at a time"},
    {"handler", 'H', "POOL.HANDLER",
     "start, run: a handler of a pool's module; then come its words"},
    {"in", 'i', "FILE", "start, run: the handler's payload (-: standard input)"},
    {"dir", 'd', "DIR", "start, run: the directory it runs in (default /; run: this one)"},
    {"env", 'e', "NAME=VALUE", "start, run: a variable of its environment; again for more"},
    {"restart", 'r', "WHEN", "start: never (default), on-failure or always"},
    {"backoff", 'b', "TIME", "start: pause before it is started again, then doubled (default 1s)"},
    {"stop", 'k', "TIME", "start, run: how long it may take to end (default 10s)"},
    {"timeout", 't', "TIME", "wait: exit status 9 when it has not ended by then"},
    {"follow", 'f', NULL, "log: go on until it has ended"},
    {0},
};
#define WAIT_OPTIONS                                                                               \
    {"timeout", 't', "TIME", "wait no longer than this: 500ms, 2s, 1.5m"}, {                       \
        "nonblock", 'n', NULL, "do not wait"                                                       \
    }
static const struct ctl_option lock_options[] = {
    WAIT_OPTIONS,
    {"conflict-exit-code", 'E', "N", "exit status when it was not to be had in time (default 1)"},
    {"list", 'l', NULL, "show who holds what, and who waits for it"},
    {0},
};
static const struct ctl_option sem_options[] = {
    WAIT_OPTIONS,
    {"conflict-exit-code", 'E', "N", "exit status when it was not to be had in time (default 1)"},
    {"max", 'm', "N", "make the semaphore, if it is not there: N at a time"},
    {0},
};
static const struct ctl_option queue_options[] = {
    WAIT_OPTIONS,
    {"in", 'i', "FILE", "put: one item, the file's content (- for standard input)"},
    {"max", 'm', "N", "create: it is full with N items"},
    {"lease", CTL_LEASE, "TIME",
     "create: an item got comes back unless done in this time (forever: "
     "only when its taker dies)"},
    {0},
};
static const struct ctl_option pipe_options[] = {
    WAIT_OPTIONS,
    {"in", 'i', "FILE", "send: one message, the file's content (- for standard input)"},
    {"simplex", CTL_SIMPLEX, NULL, "create: one way only, from end 1 to end 0"},
    {0},
};
static const struct ctl_option wait_only_options[] = {
    WAIT_OPTIONS,
    {0},
};
static const struct ctl_option no_options[] = {{0}};

const struct ctl_command ctl_commands[] = {
    {"call", "POOL.HANDLER [ARG...]", "Run a task and print its result",
     "The result's bytes go to standard output as they are; the exit status tells how it ended.\n"
     "With --stream the parts of the output are written as the task tells them, standard error to\n"
     "standard error; on a terminal a bar shows how far it has come, if it says so.\n"
     "Words after the first ARG are all the handler's, also those with a dash. POOL alone means\n"
     "POOL.run, the handler of exec pools. Ctrl-C cancels the task.\n\n"
     "    hearth call text.words --in /etc/services\n"
     "    hearth call shell ls -l /\n"
     "    tar c . | hearth call compress.deflate --in - 9 > x.z\n",
     call_options, cmd_call},
    {"submit", "POOL.HANDLER [ARG...]", "Queue a task and print its id",
     "Returns at once. The result is kept by the daemon for a while: see wait and result.\n\n"
     "    id=$(hearth submit demo.sleep 1000); hearth wait \"$id\"\n",
     run_options, cmd_submit},
    {"wait", "ID...", "Wait for tasks to end and print their results",
     "With one id its result is printed as it is, with several each line has the id before it.\n"
     "The exit status tells how it ended, the first failure if several were waited for.\n\n"
     "    hearth wait 5f3a9c1e2b7-4d\n",
     wait_options, cmd_wait},
    {"result", "ID", "Print the result of an ended task",
     "As wait, but never waits: exit status 9 while the task has not ended.\n", no_options,
     cmd_result},
    {"log", "ID", "Print what a task has told while it runs",
     "The last of it: 16 KiB, or 64 KiB of a command that has ended. Standard output goes to "
     "standard\n"
     "output, standard error and log lines to standard error.\n\n"
     "    hearth log -f \"$(hearth submit shell make)\"\n",
     log_options, cmd_log},
    {"cancel", "ID...", "Cancel tasks, queued or running",
     "Prints how many were told. Exit status 8 if none was found.\n", no_options, cmd_cancel},
    {"map", "POOL.HANDLER [FILE...]", "Run a task for each file, or each line of standard input",
     "Each FILE's content is a payload; without FILE each line of standard input is. Results are\n"
     "printed as they arrive, each line as NAME<TAB>LINE. Failures go to standard error, and do\n"
     "not stop the others. Memory is bounded whatever the length of the input, and a full queue\n"
     "is met by waiting.\n\n"
     "    hearth map text.words /usr/share/common-licenses/*\n"
     "    find . -name '*.log' -print0 | hearth map compress.deflate -0 --files --out packed\n"
     "    seq 1000 | hearth map demo.echo --plain | sort -n | tail -1\n"
     "    hearth map --split text.words access.log\n",
     map_options, cmd_map},
    {"tasks", "[ID...]", "List tasks, newest first, or show all that is known of some",
     "    hearth tasks --state failed\n    hearth tasks 5f3a9c1e2b7-4d\n", tasks_options,
     cmd_tasks},
    {"pools", "[POOL...]", "List the pools, or show all that is known of some", "", no_options,
     cmd_pools},
    {"workers", "[PID...]", "List the workers, or show all that is known of some", "", pool_options,
     cmd_workers},
    {"top", "", "Watch pools, workers and events on the terminal",
     "Keys: q quits, s sorts the pools by another column, r turns the order round, p pauses, + and "
     "-\n"
     "change how often it looks.\n\n    hearth top\n    hearth top --once | head -20\n",
     top_options, cmd_top},
    {"events", "", "Show what has happened, and with -f what happens",
     "Of tasks, workers, pools and schedules, a line each; with --json as the daemon says it.\n\n"
     "    hearth events -f --type worker\n    hearth events --json --from 1795560847139000\n",
     events_options, cmd_events},
    {"metrics", "", "Print the daemon's figures in Prometheus's text format",
     "    hearth metrics >/var/lib/prometheus/node-exporter/hearth.prom.$$\n", no_options,
     cmd_metrics},
    {"schedule", "VERB [WORD...]", "Tasks by the clock",
     "add NAME WHEN POOL.HANDLER [ARG...], list, and show, run, pause, resume or del NAME. WHEN "
     "is\n"
     "an expression as in crontab(5), or 'every 5m'. Schedules are gone when the daemon ends.\n\n"
     "    hearth schedule add nightly '30 2 * * mon-fri' shell.run /usr/local/bin/report\n"
     "    hearth schedule add beat 'every 10s' demo.echo tick\n"
     "    hearth schedule list; hearth schedule run nightly; hearth schedule del beat\n",
     schedule_options, cmd_schedule},
    {"dead", "VERB [WORD...]", "Tasks that have failed in spite of their retries",
     "list [POOL], info ID..., requeue ID... (prints the new ids), purge [ID... | pool POOL]; "
     "purge "
     "is\nfor administrators (admin_users).\n\n"
     "    hearth dead list; hearth dead requeue 5f3a9c1e2b7-4d\n",
     no_options, cmd_dead},
    {"group", "VERB NAME", "Groups of tasks",
     "wait, info, close or cancel NAME. Tasks join by --group; a group is complete when it is "
     "closed\n(also by --last) and all of them have ended.\n\n"
     "    for f in *.log; do hearth submit --group logs compress.deflate --in \"$f\"; done\n"
     "    hearth group close logs; hearth group wait logs\n",
     no_options, cmd_group},
    {"priority", "ID N", "Give a waiting task another place in the order",
     "N is 0 to 255, higher is sooner. Exit status 8 if it has ended.\n", no_options, cmd_priority},
    {"ping", "", "See whether the daemon answers, and how fast", "", ping_options, cmd_ping},
    {"info", "[SECTION...]", "Show the daemon's state", "", no_options, cmd_info},
    {"dict", "NAME VERB [WORD...]", "Look at or change a shared dict",
     "Fields and values are printed as they are. What is not there gives exit status 8.\n\n"
     "    hearth dict hits incr /index.html\n"
     "    hearth dict users set ada 'Ada Lovelace' alan 'Alan Turing'\n"
     "    hearth dict users export users.jsonl; hearth dict copy import users.jsonl\n",
     no_options, object_verb, ctl_dict_verbs},
    {"list", "NAME VERB [WORD...]", "Look at or change a shared list",
     "What is pushed first is popped first. What is not there gives exit status 8.\n\n"
     "    hearth list jobs push one two\n    hearth list jobs pop --wait 10s\n"
     "    hearth list jobs range -10\n",
     list_options, object_verb, ctl_list_verbs},
    {"get", "NAME...", "Print shared values", "Exit status 8 if one is not there.\n", no_options,
     cmd_get},
    {"set", "NAME VALUE", "Set a shared value", "    hearth set --ttl 10m token \"$token\"\n",
     set_options, cmd_set},
    {"incr", "NAME [BY]", "Add to a shared number (1) and print the sum", "", no_options, cmd_incr},
    {"del", "NAME...", "Delete shared objects; print how many there were", "", no_options, cmd_del},
    {"expire", "NAME TIME", "Let a shared object vanish after a time, or `never`",
     "Exit status 8 if it is not there.\n", no_options, cmd_expire},
    {"keys", "[PATTERN]", "List the names of shared objects",
     "PATTERN is as in the shell: * ? [a-z]. The order is none; a name that comes or goes\n"
     "meanwhile may be listed or not.\n\n    hearth keys --long 'user:*'\n",
     keys_options, cmd_keys},
    {"lock", "NAME [--] COMMAND... | --list [PATTERN]", "Run a command while a lock is held",
     "As flock(1), by a name instead of a file. The exit status is the command's, or 1 when the "
     "lock\n"
     "was not to be had in time. It is released when the command or this process ends, also by\n"
     "SIGKILL; the command gets SIGTERM when this process or the daemon dies. With\n"
     "HEARTH_OWNER_DIED=1 in its environment the holder before died, and may have left things "
     "half\n"
     "done. Signals are passed on to the command.\n\n"
     "    hearth lock backup -- rsync -a /srv /mnt\n"
     "    hearth lock deploy --timeout 10s -- ./deploy || echo 'not now'\n"
     "    hearth lock --list\n",
     lock_options, cmd_lock},
    {"sem", "NAME [--] COMMAND...", "Run a command, so many at a time",
     "As lock, for as many at a time as the semaphore has units.\n\n"
     "    for f in *.wav; do hearth sem encode --max 4 -- oggenc \"$f\" & done; wait\n",
     sem_options, cmd_sem},
    {"queue", "NAME VERB [WORD...]", "Put into or get from a queue",
     "A queue that is not created is made by its first use, without a bound. get and put wait\n"
     "(exit status 9: not in time). What is got from a queue with leases is done when it has been\n"
     "printed.\n\n"
     "    hearth queue jobs put one two\n    ls | hearth queue jobs put; hearth queue jobs close\n"
     "    hearth queue jobs get all | while read -r job; do work \"$job\"; done\n",
     queue_options, object_verb, ctl_queue_verbs},
    {"pipe", "NAME VERB [WORD...]", "Send messages through a pipe",
     "It has two ends, 0 and 1. When all that held one have closed it or ended, as each of these\n"
     "commands does, the other is at its end.\n\n"
     "    hearth pipe p create; hearth pipe p recv 0 all &\n    date | hearth pipe p send 1\n",
     pipe_options, object_verb, ctl_pipe_verbs},
    {"event", "NAME VERB", "Wait until something has happened",
     "    hearth event ready wait --timeout 30s && ./begin\n    hearth event ready set\n",
     wait_only_options, object_verb, ctl_event_verbs},
    {"barrier", "NAME VERB [WORD]", "Wait until all are there",
     "One that is too late, or ends while it waits, breaks it for all.\n\n"
     "    hearth barrier start create 3; hearth barrier start wait\n",
     wait_only_options, object_verb, ctl_barrier_verbs},
    {"manager", "run COMMAND... | list", "Shared objects that vanish when a command ends",
     "Opens a manager and runs COMMAND with its prefix in $HEARTH_MANAGER. Shared objects whose\n"
     "names begin with it are gone when the command has ended, and nothing can be made there any\n"
     "more. The exit status is the command's. `list` shows the managers that are open.\n\n"
     "    hearth manager run -- sh -c 'hearth incr \"${HEARTH_MANAGER}n\"; ./job'\n",
     no_options, cmd_manager},
    {"array", "NAME VERB [WORD...]", "Look at or change a shared typed array",
     "An element is changed at once and whole, whoever else is at it. What is not there gives "
     "exit\n"
     "status 6.\n\n"
     "    hearth array hits create uint64 24; hearth array hits add 7\n"
     "    hearth array hits range 0 12\n",
     no_options, object_verb, ctl_array_verbs},
    {"block", "VERB [WORD...]", "Raw blocks of shared memory",
     "create NAME SIZE (as 64M), list [PATTERN], show NAME..., rm NAME..., read NAME [FROM "
     "[COUNT]]\n"
     "(bytes to standard output), write NAME [AT] (from standard input).\n\n"
     "    hearth block create frame 1M; hearth block write frame <frame.raw\n"
     "    hearth block read frame 0 16 | xxd; hearth block rm frame\n",
     no_options, cmd_block},
    {"proc", "VERB [WORD...]", "Processes that the daemon starts and watches",
     "start COMMAND... (prints the id), run COMMAND... (with this terminal; ends with it), wait "
     "PROCESS\n"
     "(the exit status is the process's), stop, kill PROCESS..., signal SIGNAL PROCESS..., ps, "
     "show\n"
     "PROCESS..., log PROCESS, rm PROCESS... (of what has ended). PROCESS is an id or a name. "
     "Whatever\n"
     "descends from a process ends with it. Words after COMMAND are all the command's. With "
     "--handler\n"
     "it is a handler in a process of its own, and run and wait print its result.\n\n"
     "    hearth proc start --name web --restart always -- python3 -m http.server\n"
     "    hearth proc log -f web; hearth proc stop web; hearth proc wait web\n"
     "    hearth proc run --handler text.words --in report.txt 10\n",
     proc_options, cmd_proc},
    {"pool", "resize|recycle|broadcast|pause|resume|drain POOL [WORD...]", "Steer a pool",
     "resize POOL N, or MIN MAX: how many workers there are to be. recycle POOL [reload]: replace "
     "them\n"
     "one by one; reload: by those of the module as it is now, if it starts. broadcast POOL "
     "HANDLER\n"
     "PAYLOAD [arg ARG...]: run a task once in every worker. pause, resume POOL\n"
     "[in|out]: taking tasks, beginning them, or both. drain POOL [timeout MS]: pause in, and "
     "wait\n"
     "until no task is left (exit status 9: the time is up). `hearth pools POOL` shows what comes "
     "of\n"
     "it. For administrators (admin_users).\n\n"
     "    hearth pool resize text 8\n    hearth pool recycle text reload\n",
     no_options, cmd_pool},
    {"config", "get [PATTERN...] | set KEY VALUE... | rewrite | resetstat",
     "Show or change the configuration in force",
     "Keys are those of hearthd.conf with their place. set changes all that are named, or none;\n"
     "rewrite keeps what is in force in a file beside the configuration.\n\n"
     "    hearth config get 'pools.text.*'\n"
     "    hearth config set log_level debug pools.text.workers 8\n",
     no_options, cmd_config},
    {"reload", "", "Read the configuration's files again, and put them in force",
     "Prints what is different. What does not check changes nothing: exit status 6.\n", no_options,
     cmd_reload},
    {"dump", "[FILE]", "Write the shared state so that another daemon can load it",
     "Dicts, lists, values with their expiry, and the tasks that are queued or wait, as JSON "
     "Lines; for\n"
     "another machine, another version, or another segment_size. Each object is as it was at one\n"
     "moment. Left out: tasks that run, and other kinds of objects; it says how many.\n\n"
     "    hearth dump state.jsonl\n    hearth dump | ssh other hearth load\n",
     no_options, cmd_dump},
    {"load", "[FILE]", "Load what dump has written",
     "Objects that exist stay as they are without --replace. Tasks get new ids; the same dump "
     "loaded\n"
     "again starts none twice.\n\n"
     "    hearth load --replace state.jsonl\n",
     load_options, cmd_load},
    {"fsck", "", "Check all of the shared memory, block by block",
     "Everybody waits meanwhile, a second or so for each gigabyte in use, so it is for the\n"
     "administrators (admin_users in hearthd.conf). Exit status 1 when there are errors.\n",
     no_options, cmd_fsck},
    {"raw", "WORD...", "Send any command of the protocol and show the reply",
     "After SUBSCRIBE or PSUBSCRIBE it shows what arrives, until Ctrl-C.\n\n"
     "    hearth raw COMMAND DOCS TASK.SUBMIT\n    hearth raw PSUBSCRIBE 'tasks:*'\n",
     no_options, cmd_raw},
    {"help", "[COMMAND]", "Show this, or the help of a command",
     "`hearth help exit` explains exit statuses.\n", no_options, ctl_run_help},
};
const size_t ctl_n_commands = sizeof(ctl_commands) / sizeof(ctl_commands[0]);
