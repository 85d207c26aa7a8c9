# SPDX-License-Identifier: MIT
"""SharedMemory and ShareableList over the daemon's raw blocks. A name goes when it is unlinked, and one that was not given when the
process that made it ends; the memory when all have closed it. Nothing lies about in /dev/shm after a crash, and no tracker is needed."""
import importlib.util
import mmap
import os

import _hearth
from hearth import errors, lifetime, objects


class SharedMemory:
    """multiprocessing.shared_memory.SharedMemory."""

    _buf = _mmap = None
    _fd = -1

    def __init__(self, name=None, create=False, size=0):
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create and size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        if name is None and not create:
            raise ValueError("'name' can only be None if create=True")
        client = objects.connect()
        self._name = name or lifetime.new_name(client)
        self._block = _hearth.Block(client, self._name)
        try:
            self._fd = self._block._create(size) if create else self._block._open()
        except errors.Exists:
            raise FileExistsError(f"there is a block {self._name!r} already") from None
        except errors.Absent:
            raise FileNotFoundError(f"there is no block {self._name!r}") from None
        self._mmap = mmap.mmap(self._fd, 0)
        self._size = len(self._mmap)
        self._buf = memoryview(self._mmap)

    name = property(lambda self: self._name, doc="By which every process finds it.")
    size = property(lambda self: self._size, doc="In bytes.")
    buf = property(lambda self: self._buf, doc="The memory.")

    def __reduce__(self):
        return type(self), (self._name, False, self._size)

    def __repr__(self):
        return f"{type(self).__name__}({self._name!r}, size={self._size})"

    def __del__(self):
        try:
            self.close()
        except OSError:
            pass

    def close(self):
        """This process does without it."""
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._mmap is not None:
            self._mmap.close()
            self._mmap = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def unlink(self):
        """Takes the name away; the memory goes when all have closed it."""
        try:
            self._block._unlink()
        except errors.Absent:
            raise FileNotFoundError(f"there is no block {self._name!r}") from None


def _own_copy():
    """The standard library's module once more, for a ShareableList that takes its memory from here."""
    spec = importlib.util.find_spec("multiprocessing.shared_memory")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SharedMemory = SharedMemory
    return module.ShareableList


ShareableList = _own_copy()
ShareableList.__module__ = __name__
