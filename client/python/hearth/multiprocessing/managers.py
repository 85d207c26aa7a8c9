# SPDX-License-Identifier: MIT
"""Manager() with all that multiprocessing's has. The objects are in the daemon's memory; no process serves them."""
from multiprocessing.managers import *  # noqa: F401,F403  pylint: disable=wildcard-import,unused-wildcard-import
from multiprocessing.managers import RemoteError, State  # noqa: F401  pylint: disable=unused-import

from hearth import managers as _managers
from hearth.managers import ArrayProxy, DictProxy, ListProxy, NamespaceProxy, ValueProxy  # noqa: F401
from hearth.multiprocessing import context, queues, synchronize


class SyncManager(_managers.Manager):
    """multiprocessing.managers.SyncManager."""

    def Lock(self):
        """A lock."""
        return self.own(synchronize.Lock(name=self.name()))

    def RLock(self):
        """A recursive lock."""
        return self.own(synchronize.RLock(name=self.name()))

    def Semaphore(self, value=1):
        """A semaphore."""
        return self.own(synchronize.Semaphore(value, name=self.name()))

    def BoundedSemaphore(self, value=1):
        """A bounded semaphore."""
        return self.own(synchronize.BoundedSemaphore(value, name=self.name()))

    def Condition(self, lock=None):
        """A condition."""
        return self.own(synchronize.Condition(lock or self.RLock(), name=self.name()))

    def Event(self):
        """An event."""
        return self.own(synchronize.Event(name=self.name()))

    def Barrier(self, parties, action=None, timeout=None):
        """A barrier."""
        return self.own(synchronize.Barrier(parties, action, timeout, name=self.name()))

    def Queue(self, maxsize=0):
        """A queue."""
        return self.own(queues.JoinableQueue(maxsize, name=self.name()))

    JoinableQueue = Queue

    def Pool(self, *args, **kwargs):
        """A pool of this process."""
        return context.default.Pool(*args, **kwargs)
