# SPDX-License-Identifier: MIT
"""Queues with multiprocessing's signatures. There is no feeder thread: when put() returns the item is in shared memory, for
everybody, and what cannot be pickled is told at once."""
from queue import Empty, Full  # noqa: F401  pylint: disable=unused-import

import _hearth
from hearth import sync
from hearth.multiprocessing.synchronize import Unnamed, named


class Queue(Unnamed, sync.Queue):
    """multiprocessing.Queue, and JoinableQueue."""

    def __init__(self, maxsize=0, *, name=None, lease=None, ctx=None):
        del ctx
        client, of = named(name)
        sync.Queue.__init__(self, of, maxsize, lease=lease, client=client)
        self._closed = False
        self._made(name)

    def _again(self):
        return (self._maxsize,), {"name": self.name, "lease": self._lease_seconds}

    def put(self, obj, block=True, timeout=None):
        """queue.Full. ValueError: this process has closed it."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        _hearth.Queue.put(self, obj, block, timeout)

    def get(self, block=True, timeout=None):
        """queue.Empty. ValueError: this process has closed it."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        return _hearth.Queue.get(self, block, timeout)

    def put_nowait(self, obj):
        """put() that does not wait."""
        self.put(obj, False)

    def close(self):
        """This process will not use it any more. For all: finish()."""
        self._closed = True

    def join_thread(self):
        """There is no thread."""

    def cancel_join_thread(self):
        """There is no thread, and nothing that could be lost."""


class JoinableQueue(Queue):
    """multiprocessing.JoinableQueue: a Queue, which has task_done() and join() anyway."""


class SimpleQueue(Unnamed, sync.Queue):
    """multiprocessing.SimpleQueue."""

    def __init__(self, *, name=None, ctx=None):
        del ctx
        client, of = named(name)
        sync.Queue.__init__(self, of, client=client)
        self._closed = False
        self._made(name)

    def _again(self):
        return (), {"name": self.name}

    def get(self):  # pylint: disable=arguments-differ
        """The next; waits for it."""
        if self._closed:
            raise OSError("handle is closed")
        return _hearth.Queue.get(self)

    def put(self, obj):  # pylint: disable=arguments-differ
        """Adds one."""
        if self._closed:
            raise OSError("handle is closed")
        _hearth.Queue.put(self, obj)

    def empty(self):
        """Whether there is none."""
        if self._closed:
            raise OSError("handle is closed")
        return super().empty()

    def close(self):
        """This process will not use it any more."""
        self._closed = True
