/* SPDX-License-Identifier: MIT */
/* The raw limits: what the kernel and the machine can do at best with the primitives that Hearth is
 * made of. A rig of processes is opened, asked for round trips in as many turns as wanted, and
 * closed; between turns its processes sleep. They run where the caller was bound when it opened
 * them. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

enum raw_kind {
    RAW_FUTEX,      /* two processes, each woken by the other through a word in shared memory */
    RAW_EVENTFD,    /* the same through two eventfds */
    RAW_SOCKET,     /* the same through a Unix socket pair */
    RAW_MEBIBYTE,   /* the same with 1 MiB, answered when all of it has come */
    RAW_CHAIN,      /* client, daemon, worker, daemon, client: sockets, epoll in all three */
    RAW_CHAIN_POLL, /* the same, none of them sleeps: epoll_wait(0) and sched_yield() */
};
extern const char *const raw_names[];

enum { RAW_MESSAGE = 64, RAW_LONG = 1 << 20 }; /* bytes of a message through a socket */

struct raw {
    enum raw_kind kind;
    struct raw_shared *shared;
    int fd[2]; /* ours: read and write */
    int epoll;
    pid_t pid[2];
};

/* 0 or -errno; after a failure there is nothing to close. */
int raw_open(struct raw *r, enum raw_kind kind);
/* n round trips of one message; microseconds of each, on average, in *ret_us. 0 or -errno. */
int raw_trips(struct raw *r, unsigned n, double *ret_us);
/* Chains: n messages with at most `flight` of them under way, as many sent and read at a time as
 * there are. Messages a second. */
int raw_pipeline(struct raw *r, unsigned n, unsigned flight, double *ret_per_second);
/* Harmless on one that was zeroed or closed. */
void raw_close(struct raw *r);

/* Words handed from one process to another through a ring in shared memory: n of them, a second. */
int raw_ring(unsigned long n, double *ret_per_second);
/* posix_spawn of /bin/true, n times, so many at a time: processes a second. */
int raw_spawn(unsigned n, unsigned flight, double *ret_per_second);
/* The same by two processes, each of them one at a time: who spawns is stopped until the new
 * process has begun, so that two get further than one with two at a time. */
int raw_spawn_two(unsigned n, double *ret_per_second);
/* fork of a small process that ends at once, and waiting for it: a second. */
int raw_fork(unsigned n, double *ret_per_second);
