/* SPDX-License-Identifier: MIT */
/* The lock that is handed over, with its fast path and with deaths anywhere (lib/shm/sync_lock.c, sync.c, sync_ref.c).
 *
 * PROCS processes want one lock. Its word (owner, W) is one atomic word. While W is clear it is taken and given back by a
 * compare-and-swap without the shard's lock. Everything else happens with the shard's lock held: W is set outside of the log
 * (pin), then nobody else changes the word; what changes goes through an undo log, which is rolled back by whoever takes the
 * shard's lock from a dead process; W goes after the commit (unpin), if nobody stands in line and no death is to be told. A process
 * may die before any of its steps, DEATHS of them in all, the one that buries among them; a sleeper's futex has no time limit
 * here, so that a lost wake-up is found.
 *
 * Proved, in every interleaving: two living owners never meet; who owns the lock next after one that died with it is told;
 * when nothing can move any more, every living process has come through, nobody holds the lock, nobody is left in line and no log is
 * open.
 *
 * FAULT seeds a mistake that the checker has to find:
 *   1  burial wakes nobody: one that was granted the lock by a dead granter sleeps on
 *   2  W is set after the waiter has parked, not before: the owner's fast release misses it
 *   3  W goes before the commit: a rollback takes the lock from one who got it by the fast path
 *   4  a sleeper believes what it reads without the shard's lock: a grant that is rolled back
 *   5  W goes although a death is to be told: the fast path does not tell */

#ifndef FAULT
#define FAULT 0
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef PROCS
#define PROCS 3
#endif
#define BURIER 4 /* ... and 5: its successor */
#define IDS    6

/* the word */
byte owner;
bool W;
/* under the shard's lock, logged */
byte line[3], waiting;
bool died; /* the last owner died with it, and nobody has been told */
byte state[IDS]; /* of a process's party */
#define NONE    0
#define PARKED  1
#define GRANTED 2
#define TOLD    3 /* granted, and told of a death */

byte shard; /* the lock of the shard: who holds it */
/* the log of whoever holds it */
bool open, word_logged;
byte u_owner, u_line[3], u_waiting, u_state[IDS];
bool u_W, u_died;

byte bell[IDS];
bool asleep[IDS];
bool dead[IDS], buried[IDS], through[IDS], inside[IDS];
byte deaths;
bool owed; /* one has died with the lock, and none has come into it since: not in the code */

/* A process may die before each step. */
#define may_die                                                                                    \
    if                                                                                             \
    :: true                                                                                        \
    :: atomic { deaths < DEATHS -> deaths++; goto dying }                                          \
    fi

inline begin() {
    d_step {
        open = true;
        word_logged = false;
        u_owner = owner; u_W = W; u_died = died;
        u_waiting = waiting;
        u_line[0] = line[0]; u_line[1] = line[1]; u_line[2] = line[2];
        u_state[1] = state[1]; u_state[2] = state[2]; u_state[3] = state[3];
    }
}

inline roll_back() { /* inside of a d_step */
    if
    :: open ->
        if
        :: word_logged -> owner = u_owner; W = u_W
        :: else
        fi;
        waiting = u_waiting;
        died = u_died;
        line[0] = u_line[0]; line[1] = u_line[1]; line[2] = u_line[2];
        state[1] = u_state[1]; state[2] = u_state[2]; state[3] = u_state[3];
        open = false
    :: else
    fi
}

inline set_owner(o) { /* it is pinned */
    d_step { word_logged = true; u_owner = owner; u_W = W; owner = o; W = true }
}

inline pin() {
    W = true
}

inline unpin() {
    atomic {
        if
#if FAULT == 5
        :: waiting == 0 -> W = false
#else
        :: waiting == 0 && !died -> W = false
#endif
        :: else
        fi
    }
}

inline commit() {
#if FAULT == 3
    unpin();
    may_die;
#endif
    open = false;
    may_die
}

/* Takes the shard's lock; from a dead one after its log was rolled back. */
inline take() {
    do
    :: atomic { shard == 0 -> shard = me; break }
    :: atomic { shard != 0 && dead[shard] -> holder = shard };
        may_die;
        d_step {
            if
            :: shard == holder -> roll_back()
            :: else
            fi
        };
        may_die;
        atomic {
            if
            :: shard == holder -> shard = me; holder = 0; break
            :: else -> holder = 0
            fi
        }
    od
}

inline drop() {
    shard = 0
}

inline leave_line(p) { /* inside of a d_step */
    if
    :: waiting > 0 && line[0] == p -> line[0] = line[1]; line[1] = line[2]; line[2] = 0; waiting--
    :: waiting > 1 && line[1] == p -> line[1] = line[2]; line[2] = 0; waiting--
    :: waiting > 2 && line[2] == p -> line[2] = 0; waiting--
    :: else
    fi
}

/* To the first in line, or to nobody. The word comes first: it is the one that others look at. */
inline hand_over(dying_owner) {
    if
    :: waiting > 0 ->
        next = line[0];
        set_owner(next);
        may_die;
        d_step {
            leave_line(next);
            if
            :: dying_owner -> state[next] = TOLD
            :: else -> state[next] = GRANTED
            fi
        }
    :: else ->
        next = 0;
        died = dying_owner;
        may_die;
        set_owner(0)
    fi
}

inline wake(p) {
    bell[p] = (bell[p] + 1) % 8;
    may_die;
    asleep[p] = false
}

proctype process(byte me) {
    byte holder, next, seen, who;
    bool told;

acquire:
    may_die;
    atomic {
        if
        :: owner == 0 && !W -> owner = me; goto critical
        :: else
        fi
    };
    may_die;
    take();
    may_die;
#if FAULT != 2
    pin();
#endif
    may_die;
    begin();
    who = owner;
    if
    :: who != 0 && dead[who] -> hand_over(true); may_die
    :: else
    fi;
    if
    :: owner == 0 ->
        assert(waiting == 0);
#if FAULT == 2
        pin();
#endif
        set_owner(me);
        may_die;
        d_step { told = died; died = false }
    :: else ->
        d_step { line[waiting] = me; waiting++; state[me] = PARKED; who = 255 }
    fi;
    may_die;
    commit();
#if FAULT == 2
    pin();
#endif
    unpin();
    may_die;
    drop();
    may_die;
    if
    :: next != 0 -> wake(next); next = 0
    :: else
    fi;
    if
    :: who != 255 -> goto critical
    :: else
    fi;
sleeping:
    who = 0;
    may_die;
    seen = bell[me];
    may_die;
#if FAULT == 4
    if
    :: state[me] == GRANTED -> goto critical
    :: else
    fi;
#endif
    take();
    if
    :: state[me] >= GRANTED ->
        told = state[me] == TOLD;
        begin();
        state[me] = NONE;
        may_die;
        commit();
        drop();
        goto critical
    :: state[me] == PARKED /* its time is over */ ->
        begin();
        d_step { leave_line(me); state[me] = NONE };
        may_die;
        commit();
        drop();
        goto out
    :: state[me] == PARKED -> drop()
    fi;
    may_die;
    atomic {
        if
        :: bell[me] == seen -> asleep[me] = true
        :: else
        fi
    };
    do
    :: !asleep[me] -> goto sleeping
    :: atomic { deaths < DEATHS -> deaths++; goto dying }
    od;

critical:
    atomic {
        seen = 0;
        who = 0;
        inside[me] = true;
        assert(owner == me && inside[1] + inside[2] + inside[3] == 1);
        assert(!owed || told);
        owed = false;
        told = false
    };
    may_die;
    inside[me] = false;
    may_die;
    atomic {
        if
        :: owner == me && !W -> owner = 0; goto out
        :: else
        fi
    };
    may_die;
    take();
    may_die;
    pin();
    may_die;
    begin();
    hand_over(false);
    may_die;
    commit();
    unpin();
    may_die;
    drop();
    may_die;
    if
    :: next != 0 -> wake(next); next = 0
    :: else
    fi;
out:
    skip;
    d_step { through[me] = true; seen = 0; next = 0; who = 0; told = false };
    goto gone;
dying:
    skip;
    d_step {
        if /* whether it will turn out to have died with the lock, when its log is rolled back */
        :: open && shard == me && word_logged -> owed = owed || u_owner == me
        :: else -> owed = owed || owner == me
        fi;
        dead[me] = true; inside[me] = false; asleep[me] = false;
        seen = 0; next = 0; who = 0; told = false; holder = 0
    };
gone:
    skip
}

/* The daemon, for the lock's part of it; and its successor, should it die. */
proctype burier() {
    byte me = BURIER, holder, next, p, i;

live:
    p = 0;
end:
    do
    :: p == 0 && dead[1] && !buried[1] -> p = 1
    :: p == 0 && dead[2] && !buried[2] -> p = 2
    :: p == 0 && dead[3] && !buried[3] -> p = 3
    :: p == 0 && dead[BURIER] && !buried[BURIER] -> p = BURIER
    :: p != 0 ->
        may_die;
        take();
        may_die;
        if
        :: owner == p ->
            pin();
            may_die;
            begin();
            hand_over(true);
            may_die;
            commit();
            unpin()
        :: else ->
            next = 0
        fi;
        may_die;
        begin();
        d_step { leave_line(p); state[p] = NONE };
        may_die;
        commit();
        drop();
        may_die;
#if FAULT != 1
        i = 1;
        do
        :: i <= PROCS && state[i] != NONE -> wake(i); i++
        :: i <= PROCS && state[i] == NONE -> i++
        :: i > PROCS -> break
        od;
        i = 0;
#endif
        may_die;
        d_step { buried[p] = true; next = 0; p = 0 }
    od;
dying:
    skip;
    d_step { dead[me] = true; me++; holder = 0; next = 0; i = 0 };
    goto live
}

init {
    atomic {
        run process(1);
        run process(2);
#if PROCS > 2
        run process(3);
#else
        through[3] = true;
#endif
        run burier()
    };
    timeout; /* nothing can move any more */
    assert((through[1] || dead[1]) && (through[2] || dead[2]) && (through[3] || dead[3]));
    assert(!open || dead[shard]);
    assert(owner == 0 || dead[owner]);
    assert(owner == 0 || !buried[owner]);
    assert(waiting == 0)
}
