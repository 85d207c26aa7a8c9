# SPDX-License-Identifier: MIT
"""Locks, semaphores, events, conditions and barriers with multiprocessing's signatures. With a name they are hearth.Lock and so on of that
name; without, they go when nobody can use them any more (hearth.lifetime)."""
from multiprocessing import process

import _hearth
from hearth import lifetime, objects, sync

SEM_VALUE_MAX = 2**31 - 1


def named(name):
    """A client, and the name or a new one."""
    client = objects.connect()
    return client, name if name is not None else lifetime.new_name(client)


class Unnamed:
    """What has no name of its own."""

    def __reduce__(self):
        lifetime.escaped(self)
        return super().__reduce__()

    def _made(self, name, *more):
        if name is None:
            lifetime.own(self, *more)


class _Lock(Unnamed):
    def __init__(self, *, name=None, ctx=None):
        del ctx
        client, of = named(name)
        # As multiprocessing's: anybody may release a Lock, so a circle of waiters need not be one.
        _hearth.Lock.__init__(self, client, of, self._recursive, self._recursive, not self._recursive)
        self._how = self._recursive, not self._recursive
        self._made(name)

    def _again(self):
        return (), {"name": self.name}

    def __repr__(self):
        try:
            owner = process.current_process().name if self._is_mine() else "None" if not self._recursive and not self.locked() else "SomeOther"
        except Exception:  # pylint: disable=broad-except
            owner = "unknown"
        return f"<{type(self).__name__}(owner={owner})>"


class Lock(_Lock, sync.Lock):
    """multiprocessing.Lock."""


class RLock(_Lock, sync.RLock):
    """multiprocessing.RLock."""


class Semaphore(Unnamed, sync.Semaphore):
    """multiprocessing.Semaphore. Units that a thread or process holds when it ends come back."""

    def __init__(self, value=1, *, name=None, ctx=None):
        del ctx
        if value < 0 or value > SEM_VALUE_MAX:
            raise ValueError("semaphore initial value out of range")
        client, of = named(name)
        sync.Semaphore.__init__(self, of, value, client=client)
        self._made(name)

    def _again(self):
        return (self._first,), {"name": self.name}

    def __repr__(self):
        return f"<{type(self).__name__}(value={self.get_value()})>"


class BoundedSemaphore(Semaphore):
    """multiprocessing.BoundedSemaphore."""

    _bounded = True


class Event(Unnamed, sync.Event):
    """multiprocessing.Event."""

    def __init__(self, *, name=None, ctx=None):
        del ctx
        client, of = named(name)
        sync.Event.__init__(self, of, client=client)
        self._made(name)

    def _again(self):
        return (), {"name": self.name}

    def __repr__(self):
        return f"<{type(self).__name__} at {self.name} {'set' if self.is_set() else 'unset'}>"


class Condition(Unnamed, sync.Condition):
    """multiprocessing.Condition."""

    def __init__(self, lock=None, *, name=None, ctx=None):
        del ctx
        client, of = named(name)
        if lock is None:
            lock = RLock() if name is None else RLock(name=name + ":lock")
        sync.Condition.__init__(self, of, lock, client=client)
        self._made(name)

    def _again(self):
        return (self._lock,), {"name": self.name}

    def __repr__(self):
        return f"<{type(self).__name__}({self._lock!r}, {self.name})>"


class Barrier(Unnamed, sync.Barrier):
    """multiprocessing.Barrier."""

    def __init__(self, parties, action=None, timeout=None, *, name=None, ctx=None):
        del ctx
        client, of = named(name)
        sync.Barrier.__init__(self, of, parties, action, timeout, client=client)
        self._made(name, ":go")

    def _again(self):
        return (self._parties, self._action, self._timeout), {"name": self.name}
