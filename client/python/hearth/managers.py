# SPDX-License-Identifier: MIT
"""Manager(): a scope for shared objects, with multiprocessing's Manager's ways of making them. No process serves them: they are in the
daemon's memory, and go when the manager is shut down or the process that opened it ends, however it ends."""
import itertools
import os
import threading

import _hearth
from hearth import lifetime, objects


class _Known:
    """Once pickled it may be anywhere."""

    def __reduce__(self):
        lifetime.escaped(self)
        return super().__reduce__()


class _Value(_Known, objects.Value):
    pass


class DictProxy(_Known, objects.Dict):
    """A Manager's dict."""


class ListProxy(_Known, objects.List):
    """A Manager's list."""


class NamespaceProxy(objects.Namespace):
    """A Manager's Namespace."""


class ValueProxy:
    """A Manager's Value: any object, or a number coerced by its type code."""

    def __init__(self, name, typecode="", *, client=None):
        self._value = name if isinstance(name, _hearth.Value) else objects.Value(name, client=client)
        self._typecode = typecode

    def get(self):
        """What is there."""
        return self._value.get()

    def set(self, value):
        """Replaces it."""
        self._value.set(value)

    value = property(get, set)

    def __reduce__(self):
        return type(self), (self._value, self._typecode)

    def __repr__(self):
        return f"Value({self._typecode!r}, {self.get()!r})"


class ArrayProxy(_Known, objects.List):
    """A Manager's Array: a list of fixed length."""

    def __repr__(self):
        return f"<ArrayProxy {self.name!r}>"


class Manager:
    """Makes dicts, lists and so on that go with it. A context manager; shutdown() ends it."""

    def __init__(self, client=None):
        self._client = client or objects.connect()
        self._keeper = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._owner = None
        self.start()

    def start(self, initializer=None, initargs=()):
        """Opens it; it is open when made."""
        if initializer is not None:
            initializer(*initargs)
        if self._keeper is None:
            self._keeper = _hearth.Keeper(self._client)
            self._owner = os.getpid()

    def shutdown(self):
        """Ends it: all that was made with it is gone, for everybody. Not from a child of the process that opened it."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None and self._owner == os.getpid():
            keeper.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()

    def join(self, timeout=None):
        """There is no process to wait for."""

    def _number_of_objects(self):
        lifetime.sweep()
        cursor, names = b"0", set()
        while True:
            cursor, some = self._client.command("SCAN", cursor, "MATCH", self.prefix + "*", "COUNT", 1000)
            names.update(some)
            if cursor == b"0":
                return len(names)

    def _debug_info(self):
        return f"{self._number_of_objects()} objects under {self.prefix}"

    @property
    def prefix(self):
        """What the names of all that belongs to it begin with."""
        if self._keeper is None:
            raise ValueError("the manager has been shut down")
        return self._keeper.prefix

    def name(self, of=None):
        """A name under the prefix: of something by which others find it, else one that is not used yet."""
        if of is None:
            lifetime.sweep()
            of = f"{os.getpid()}.{next(self._numbers)}"
        return self.prefix + of

    def own(self, made, name=None):
        """It goes when it is dropped, if nobody else can know of it; else with the manager."""
        if name is None:
            lifetime.own(made)
        return made

    def dict(self, *args, name=None, **kwargs):
        """A shared dict, with what is given."""
        made = self.own(DictProxy(self.name(name), client=self._client), name)
        if args or kwargs:
            made.update(*args, **kwargs)
        return made

    def list(self, sequence=(), *, name=None):
        """A shared list, with what is given."""
        made = self.own(ListProxy(self.name(name), client=self._client), name)
        made.extend(sequence)
        return made

    def Namespace(self, **attributes):  # pylint: disable=invalid-name
        """A shared Namespace."""
        made = NamespaceProxy(self.own(DictProxy(self.name(), client=self._client)))
        for key, value in attributes.items():
            setattr(made, key, value)
        return made

    def Value(self, typecode, value, lock=True):  # pylint: disable=invalid-name,unused-argument
        """A shared value of any kind."""
        made = ValueProxy(self.own(_Value(self.name(), client=self._client)), typecode)
        made.set(value)
        return made

    def Array(self, typecode, sequence, lock=True):  # pylint: disable=invalid-name,unused-argument
        """A shared array: a list whose length stays."""
        made = self.own(ArrayProxy(self.name(), client=self._client))
        made.extend(sequence)
        return made
