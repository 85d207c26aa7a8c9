# SPDX-License-Identifier: MIT
"""Contexts: those of the standard library with objects of ours. Processes are theirs: fork, or spawn and forkserver if asked for."""
from multiprocessing import context as _stdlib
from multiprocessing import process


class _Objects:
    """What a context makes."""

    Connection = None

    def Manager(self):
        """A manager, open."""
        from hearth.multiprocessing.managers import SyncManager
        return SyncManager()

    def Pipe(self, duplex=True, *, name=None):
        """Two connections: sockets that children inherit; with a name, ends of a pipe that any process finds."""
        if name is not None:
            from hearth import sync
            return sync.Pipe(name, duplex)
        from multiprocessing.connection import Pipe
        return Pipe(duplex)

    def Lock(self, *, name=None):
        """A lock."""
        from hearth.multiprocessing import synchronize
        return synchronize.Lock(name=name)

    def RLock(self, *, name=None):
        """A recursive lock."""
        from hearth.multiprocessing import synchronize
        return synchronize.RLock(name=name)

    def Condition(self, lock=None, *, name=None):
        """A condition."""
        from hearth.multiprocessing import synchronize
        return synchronize.Condition(lock, name=name)

    def Semaphore(self, value=1, *, name=None):
        """A semaphore."""
        from hearth.multiprocessing import synchronize
        return synchronize.Semaphore(value, name=name)

    def BoundedSemaphore(self, value=1, *, name=None):
        """A bounded semaphore."""
        from hearth.multiprocessing import synchronize
        return synchronize.BoundedSemaphore(value, name=name)

    def Event(self, *, name=None):
        """An event."""
        from hearth.multiprocessing import synchronize
        return synchronize.Event(name=name)

    def Barrier(self, parties, action=None, timeout=None, *, name=None):
        """A barrier."""
        from hearth.multiprocessing import synchronize
        return synchronize.Barrier(parties, action, timeout, name=name)

    def Queue(self, maxsize=0, *, name=None, lease=None):
        """A queue."""
        from hearth.multiprocessing import queues
        return queues.Queue(maxsize, name=name, lease=lease)

    def JoinableQueue(self, maxsize=0, *, name=None):
        """A queue."""
        from hearth.multiprocessing import queues
        return queues.JoinableQueue(maxsize, name=name)

    def SimpleQueue(self, *, name=None):
        """A queue."""
        from hearth.multiprocessing import queues
        return queues.SimpleQueue(name=name)

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None):
        """A pool of worker processes."""
        from hearth.multiprocessing.pool import Pool
        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def RawValue(self, typecode_or_type, *args, name=None):
        """A shared value."""
        from hearth.multiprocessing import sharedctypes
        return sharedctypes.RawValue(typecode_or_type, *args, name=name)

    def RawArray(self, typecode_or_type, size_or_initializer, *, name=None):
        """A shared array."""
        from hearth.multiprocessing import sharedctypes
        return sharedctypes.RawArray(typecode_or_type, size_or_initializer, name=name)

    def Value(self, typecode_or_type, *args, lock=True, name=None):
        """A shared value with a lock."""
        from hearth.multiprocessing import sharedctypes
        return sharedctypes.Value(typecode_or_type, *args, lock=lock, ctx=self.get_context(), name=name)

    def Array(self, typecode_or_type, size_or_initializer, *, lock=True, name=None):
        """A shared array with a lock."""
        from hearth.multiprocessing import sharedctypes
        return sharedctypes.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context(), name=name)


class ForkContext(_Objects, _stdlib.ForkContext):
    """Processes by fork()."""


class SpawnContext(_Objects, _stdlib.SpawnContext):
    """Processes by starting Python anew."""


class ForkServerContext(_Objects, _stdlib.ForkServerContext):
    """Processes forked by a clean one."""


_contexts = {"fork": ForkContext(), "spawn": SpawnContext(), "forkserver": ForkServerContext()}


class Process(process.BaseProcess):
    """multiprocessing.Process: started as the start method says."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj):
        return default.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork():
        return default.get_context().Process._after_fork()


class DefaultContext(_Objects, _stdlib.DefaultContext):
    """The one behind the functions of the module. The start method is that of the standard library's module too."""

    Process = Process

    def __init__(self):
        super().__init__(_contexts["fork"])

    def get_context(self, method=None):
        """The context of a start method."""
        if method is None:
            method = (self._actual_context or self._default_context).get_start_method()
        if method not in _contexts:
            raise ValueError(f"cannot find context for {method!r}")
        return _contexts[method]

    def set_start_method(self, method, force=False):
        """fork, spawn or forkserver."""
        if self._actual_context is not None and not force:
            raise RuntimeError("context has already been set")
        if method is None and force:
            self._actual_context = None
            return
        self._actual_context = self.get_context(method)

    def get_start_method(self, allow_none=False):
        """Which it is."""
        if self._actual_context is None:
            if allow_none:
                return None
            self._actual_context = self._default_context
        return self._actual_context._name

    def get_all_start_methods(self):
        """All of them; the default is the first."""
        return list(_contexts)


default = DefaultContext()
