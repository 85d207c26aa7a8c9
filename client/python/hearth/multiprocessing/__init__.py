# SPDX-License-Identifier: MIT
"""multiprocessing, with objects that are shared with every process of the machine: change the import line.

    from hearth import multiprocessing        # or: import hearth.multiprocessing as multiprocessing

Names, signatures and exceptions are those of the standard library's, whose processes, connections and ctypes objects these are as well. Locks,
semaphores, events, conditions, barriers, queues, managers, pools and shared memory are Hearth's: they survive the death of whoever
holds or waits for them. With name=..., they are found by any other program; without, they go with the process that made them."""
import sys
from multiprocessing import (AuthenticationError, BufferTooShort, ProcessError, TimeoutError,  # pylint: disable=redefined-builtin
                             connection, dummy, forkserver, heap, popen_fork, process, reduction, resource_sharer, resource_tracker,
                             spawn, util)

from hearth.multiprocessing import context, managers, pool, queues, shared_memory, sharedctypes, synchronize
from hearth.multiprocessing.pool import WorkerLost

# What is the standard library's own is found under this name too, so that only the first word of an import line changes.
for _module in (connection, dummy, forkserver, heap, popen_fork, process, reduction, resource_sharer, resource_tracker, spawn, util):
    sys.modules[__name__ + _module.__name__[len("multiprocessing"):]] = _module

_default = context.default
_NAMES = [name for name in dir(_default) if not name.startswith("_")]
globals().update((name, getattr(_default, name)) for name in _NAMES)
__all__ = list(_NAMES)
