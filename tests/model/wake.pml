/* SPDX-License-Identifier: MIT */
/* Sleeping and waking (lib/shm/sync_owner.c, shm_ring_daemon()), with deaths between any two steps.
 *
 * A mapped waiter says that it may sleep, and sleeps on its bell, a futex: the granter commits, adds one to the bell and wakes it
 * if it has said so. A connection's waiter is the daemon's to serve: the granter commits, sets the connection's bit and the
 * flag over all bits, and rings the daemon, if the daemon has said that it sleeps. A granter may die after its commit,
 * anywhere; then the daemon hears of its death, and buries it: all who wait are woken to look for themselves. The daemon may
 * grant as well, and die in the same places and within a burial; its successor buries it.
 *
 * The granter grants something to TO, and the daemon to another mapped waiter.
 *
 * Proved, in every interleaving: when nothing can move any more, everybody to whom something was granted has got it.
 *
 * FAULT seeds a mistake that the checker has to find:
 *   1  burial wakes nobody
 *   2  the daemon says that it sleeps only after it has looked for the last time
 *   3  a sleeper reads its bell after it has looked, not before
 *   4  the granter wakes before it commits
 *   5  the daemon takes the flag down after it has looked at the bits, and does not look again */

#ifndef FAULT
#define FAULT 0
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef TO /* whom the granter grants something: 0: a mapped waiter, 2: the connection */
#define TO 2
#endif

bool granted[3]; /* committed: to two mapped waiters and a connection */
#define CONN 2
byte bell[2];
bool says[2], asleep[2];
bool doorbit, flag, daemon_asleep, eventfd;
byte corpses; /* whose pidfd, or socket, says that they are dead */
byte deaths;
bool served; /* the connection */

#define may_die                                                                                    \
    if                                                                                             \
    :: true                                                                                        \
    :: atomic { deaths < DEATHS -> deaths++; goto dying }                                          \
    fi

inline ring() {
    if
    :: daemon_asleep ->
        may_die;
        atomic { was = daemon_asleep; daemon_asleep = false };
        may_die;
        if
        :: was -> was = false; eventfd = true
        :: else
        fi
    :: else
    fi
}

inline tell(w) {
    if
    :: w != CONN ->
        bell[w]++;
        may_die;
        if
        :: says[w] -> may_die; asleep[w] = false
        :: else
        fi
    :: else ->
        doorbit = true;
        may_die;
        flag = true;
        may_die;
        ring()
    fi
}

inline grant(w) {
#if FAULT == 4
    tell(w);
    granted[w] = true;
#else
    granted[w] = true;
    may_die;
    tell(w);
#endif
}

proctype granter(byte w) {
    bool was;
    grant(w);
    goto gone;
dying:
    atomic { was = false; corpses++ };
gone:
    skip
}

proctype waiter(byte me) {
    byte seen;
again:
#if FAULT == 3
    if
    :: granted[me] -> goto done
    :: else
    fi;
    seen = bell[me];
    says[me] = true;
#else
    seen = bell[me];
    says[me] = true;
    if
    :: granted[me] -> goto done
    :: else
    fi;
#endif
    atomic { /* the kernel compares and sleeps at once */
        if
        :: bell[me] == seen -> asleep[me] = true
        :: else
        fi
    };
    !asleep[me];
    goto again;
done:
    skip
}

inline take_bit() {
    if
    :: doorbit ->
        doorbit = false;
        if
        :: granted[CONN] -> served = true
        :: else
        fi
    :: else
    fi
}

proctype daemon() {
    bool was, has_granted;
    goto turn;
dying:
    atomic { corpses++; was = false }; /* of its own slot: the successor finds it */
turn:
    daemon_asleep = false;
    eventfd = false;
    if
    :: corpses > 0 ->
#if FAULT != 1
        tell(0);
        may_die;
        tell(1);
        may_die;
        doorbit = true;
        may_die;
        flag = true;
#endif
        may_die;
        corpses-- /* released: only now is it forgotten */
    :: else
    fi;
    if
    :: !has_granted -> atomic { has_granted = true; granted[1] = true }; may_die; tell(1)
    :: else
    fi;
    if
    :: flag ->
        take_bit();
#if FAULT == 5
        flag = false
#else
        flag = false;
        if
        :: doorbit -> take_bit(); flag = true
        :: else
        fi
#endif
    :: else
    fi;
#if FAULT == 2
    if
    :: flag || corpses > 0 -> goto turn
    :: else
    fi;
    daemon_asleep = true;
#else
    daemon_asleep = true;
    if
    :: flag || corpses > 0 -> goto turn
    :: else
    fi;
#endif
end:
    eventfd || corpses > 0;
    goto turn
}

/* The client behind the connection. */
proctype client() {
    served
}

init {
    atomic {
        run granter(TO);
#if TO == CONN
        run client();
#else
        run waiter(0);
#endif
        run waiter(1);
        run daemon()
    }
}
