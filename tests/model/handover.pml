/* SPDX-License-Identifier: MIT */
/* The lock that is handed over, with its fast path and with deaths anywhere (lib/shm/sync.c).
 *
 * PROCS processes want one lock. Its word (owner, W, D) is one atomic word: W says that somebody is, or was, parked; D that
 * the last owner died holding it. While W and D are clear it is taken and given back by a compare-and-swap without the
 * shard's lock. Everything else happens with the shard's lock held, and what changes there goes through an undo log that is
 * rolled back by whoever takes that lock from a dead process. A process may die before any of its steps, DEATHS of them in all,
 * the one that buries among them; a sleeper's futex has no time limit here, so that a lost wake-up is found.
 *
 * Proved, in every interleaving: two living owners never meet; when nothing can move any more, every living process has come
 * through, nobody holds the lock, nobody is left in line and no log is open.
 *
 * FAULT seeds a mistake that the checker has to find:
 *   1  burial wakes nobody: one that was granted the lock by a dead granter sleeps on
 *   2  W is set after the waiter has parked, not before: the owner's fast release misses it
 *   3  a lock with W but nobody in line is freed through the log: its rollback takes it from the next owner
 *   4  a sleeper believes what it reads without the shard's lock: a grant that is rolled back */

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
bool W, D;
/* under the shard's lock, logged */
byte line[3], waiting;
byte state[IDS]; /* of a process's party */
#define NONE    0
#define PARKED  1
#define GRANTED 2

byte shard; /* the lock of the shard: who holds it */
/* the log of whoever holds it */
bool open, word_logged;
byte u_owner, u_line[3], u_waiting, u_state[IDS];
bool u_W, u_D;

byte bell[IDS];
bool asleep[IDS];
bool dead[IDS], buried[IDS], through[IDS], inside[IDS];
byte deaths;

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
        u_owner = owner; u_W = W; u_D = D;
        u_waiting = waiting;
        u_line[0] = line[0]; u_line[1] = line[1]; u_line[2] = line[2];
        u_state[1] = state[1]; u_state[2] = state[2]; u_state[3] = state[3];
    }
}

inline roll_back() { /* inside of a d_step */
    if
    :: open ->
        if
        :: word_logged -> owner = u_owner; W = u_W; D = u_D
        :: else
        fi;
        waiting = u_waiting;
        line[0] = u_line[0]; line[1] = u_line[1]; line[2] = u_line[2];
        state[1] = u_state[1]; state[2] = u_state[2]; state[3] = u_state[3];
        open = false
    :: else
    fi
}

inline set_word(o, w, d) {
    d_step { word_logged = true; u_owner = owner; u_W = W; u_D = D; owner = o; W = w; D = d }
}

inline commit() {
    open = false
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

/* The first in line becomes the owner. The word comes first: it is the one that others look at. */
inline hand_over(d) {
    next = line[0];
    set_word(next, (waiting > 1), d);
    may_die;
    d_step { leave_line(next); state[next] = GRANTED }
}

inline wake(p) {
    bell[p] = (bell[p] + 1) % 8;
    may_die;
    asleep[p] = false
}

/* With the shard's lock held, from one that is dead: to the next in line, else to `to` (0: it is free, and says so by D). */
inline take_from_dead(to) {
    begin();
    if
    :: waiting > 0 ->
        hand_over(true)
    :: else ->
        next = 0;
        set_word(to, false, (to == 0))
    fi;
    may_die;
    commit()
}

proctype process(byte me) {
    byte holder, next, seen, who;
    bool w;

acquire:
    may_die;
    atomic {
        if
        :: owner == 0 && !W && !D -> owner = me; goto critical
        :: else
        fi
    };
    may_die;
    take();
again:
    may_die;
    atomic { who = owner; w = W };
    if
    :: who == 0 -> /* free: a compare-and-swap, since the fast path does the same */
        assert(waiting == 0);
        atomic {
            if
            :: owner == 0 -> owner = me; W = false; D = false
            :: else -> goto again
            fi
        };
        may_die;
        drop();
        goto critical
    :: who != 0 && dead[who] ->
        if
        :: waiting > 0 ->
            take_from_dead(0);
            may_die;
            drop();
            may_die;
            wake(next);
            next = 0;
            goto acquire
        :: else ->
            take_from_dead(me);
            may_die;
            drop();
            goto critical
        fi
    :: else
    fi;
#if FAULT != 2
    atomic { /* W, unless the word has changed */
        if
        :: owner == who && W == w -> W = true
        :: else -> goto again
        fi
    };
    may_die;
#endif
    begin();
    d_step { line[waiting] = me; waiting++; state[me] = PARKED };
    may_die;
    commit();
    may_die;
#if FAULT == 2
    atomic {
        if
        :: owner == who -> W = true
        :: else
        fi
    };
#endif
    drop();
sleeping:
    who = 0;
    w = false;
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
    :: state[me] == GRANTED ->
        begin();
        state[me] = NONE;
        may_die;
        commit();
        may_die;
        drop();
        goto critical
    :: state[me] == PARKED /* its time is over */ ->
        begin();
        d_step { leave_line(me); state[me] = NONE };
        may_die;
        commit();
        may_die;
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
    atomic { seen = 0; who = 0; inside[me] = true; assert(owner == me && inside[1] + inside[2] + inside[3] == 1) };
    may_die;
    inside[me] = false;
    may_die;
    atomic {
        if
        :: owner == me && !W && !D -> owner = 0; goto out
        :: else
        fi
    };
    may_die;
    take();
    may_die;
    if
    :: waiting == 0 ->
        /* one store and no log: the word is free for the fast path from now on */
#if FAULT == 3
        begin();
        set_word(0, false, false);
        may_die;
        commit();
#else
        d_step { assert(owner == me); owner = 0; W = false; D = false };
#endif
        may_die;
        drop()
    :: else ->
        begin();
        hand_over(false);
        may_die;
        commit();
        may_die;
        drop();
        may_die;
        wake(next);
        next = 0
    fi;
out:
    skip;
    d_step { through[me] = true; seen = 0; next = 0; who = 0; w = false };
    goto gone;
dying:
    skip;
    d_step { dead[me] = true; inside[me] = false; asleep[me] = false; seen = 0; next = 0; who = 0; w = false; holder = 0 };
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
            take_from_dead(0)
        :: else ->
            next = 0
        fi;
        may_die;
        begin();
        d_step { leave_line(p); state[p] = NONE };
        may_die;
        commit();
        may_die;
        drop();
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
