# SPDX-License-Identifier: MIT
"""How long shared objects without a name of their own stay: their names lie under the prefix of a manager that each process opens when
it first makes one, and that ends with the process, however that ends.

Within that time an object goes when this process has dropped it and no child that may have inherited it is left. Each fork() is given
a lifeline: a pipe whose writing end only the child and its descendants have, so it is at its end when they are all gone, killed or not. An
object that was pickled may be anywhere, and stays until the process ends."""
import collections
import itertools
import os
import select
import threading
import weakref

import _hearth

_lock = threading.Lock()
_keepers = {}  # client: Keeper, of this process
_numbers = itertools.count(1)
_dropped = collections.deque()  # (client, name, fork at which it was made)
_forks = itertools.count(1)
_last_fork = 0
_lifelines = {}  # reading end: fork
_held = []  # writing ends: of this process's ancestors
_new = None  # the pipe of a fork() under way


def new_name(client):
    """A name that nobody else has, until this process ends."""
    keeper = _keepers.get(client)
    if keeper is None or not keeper.alive:
        with _lock:
            keeper = _keepers.get(client)
            if keeper is None or not keeper.alive:
                keeper = _keepers[client] = _hearth.Keeper(client)
    if _dropped:
        sweep()
    return f"{keeper.prefix}{next(_numbers)}"


def own(thing, *more):
    """The thing goes when it is dropped; objects whose names have `more` behind its own with it."""
    names = [thing.name, *(thing.name + m for m in more)]
    thing._lifetime = weakref.finalize(thing, _drop, thing.client, names, _last_fork, os.getpid())
    thing._lifetime.atexit = False


def escaped(thing):
    """It is known elsewhere, and stays."""
    lifetime = getattr(thing, "_lifetime", None)
    if lifetime is not None:
        lifetime.detach()


def _drop(client, names, born, pid):
    # From wherever the collector runs: nothing may be done here but to note it.
    if pid == os.getpid():
        _dropped.append((client, names, born))


def _living():
    """The last fork whose child, or a descendant, may still be there; -1: none."""
    if not _lifelines:
        return -1
    poll = select.poll()
    for fd in _lifelines:
        poll.register(fd, select.POLLIN)
    for fd, _ in poll.poll(0):
        del _lifelines[fd]
        os.close(fd)
    return max(_lifelines.values(), default=-1)


def sweep():
    """Deletes what is dropped and can be used by nobody any more."""
    if not _dropped or not _lock.acquire(blocking=False):
        return
    try:
        living = _living()
        again = []
        while _dropped:
            client, names, born = _dropped.popleft()
            if born < living:
                again.append((client, names, born))
                continue
            for name in names:
                try:
                    _hearth.Object(client, name).delete()
                except OSError:
                    pass
        _dropped.extend(again)
    finally:
        _lock.release()


def _before_fork():
    global _new  # pylint: disable=global-statement
    _lock.acquire()
    _new = None
    if _keepers:
        _living()
        _new = os.pipe()


def _after_fork_in_parent():
    global _last_fork  # pylint: disable=global-statement
    if _new:
        _last_fork = next(_forks)
        _lifelines[_new[0]] = _last_fork
        os.close(_new[1])
    _lock.release()


def _after_fork_in_child():
    global _lock  # pylint: disable=global-statement
    if _new:
        os.close(_new[0])
        _held.append(_new[1])
    for fd in _lifelines:
        os.close(fd)
    _lifelines.clear()
    _keepers.clear()
    _dropped.clear()
    _lock = threading.Lock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
