# SPDX-License-Identifier: MIT
"""Manager() with all that multiprocessing's has. The objects are in the daemon's memory; no process serves them."""
from hearth import managers as _managers
from hearth.managers import ArrayProxy, DictProxy, ListProxy, NamespaceProxy, ValueProxy  # noqa: F401


class SyncManager(_managers.Manager):
    """multiprocessing.managers.SyncManager."""

    def Lock(self):
        """A lock."""
        return synchronize.Lock(name=self.name())

    def RLock(self):
        """A recursive lock."""
        return synchronize.RLock(name=self.name())

    def Semaphore(self, value=1):
        """A semaphore."""
        return synchronize.Semaphore(value, name=self.name())

    def BoundedSemaphore(self, value=1):
        """A bounded semaphore."""
        return synchronize.BoundedSemaphore(value, name=self.name())

    def Condition(self, lock=None):
        """A condition."""
        return synchronize.Condition(lock, name=self.name())

    def Event(self):
        """An event."""
        return synchronize.Event(name=self.name())

    def Barrier(self, parties, action=None, timeout=None):
        """A barrier."""
        return synchronize.Barrier(parties, action, timeout, name=self.name())

    def Queue(self, maxsize=0):
        """A queue."""
        return queues.JoinableQueue(maxsize, name=self.name())

    JoinableQueue = Queue

    def Pool(self, *args, **kwargs):
        """A pool of this process."""
        return context.default.Pool(*args, **kwargs)


from hearth.multiprocessing import context, queues, synchronize  # noqa: E402  pylint: disable=wrong-import-position
