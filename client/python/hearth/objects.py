# SPDX-License-Identifier: MIT
"""Connecting, and shared objects by name: what the extension has in C, with the rest of Python's manners."""
import threading

import _hearth
from hearth.tasks import Submitter

_clients = {}
_lock = threading.Lock()


class Client(_hearth.Client):
    """A daemon. Every thread that uses it has a connection of its own, made at first use; so has every process after a fork."""

    def call(self, pool, handler, payload=b"", *args, timeout=None, options=()):
        """Runs a task and waits for its result, bytes. Raises hearth.TaskError. `timeout` (seconds) is the limit of its run;
        `options` are further words of TASK.SUBMIT, as ("PRIORITY", 200)."""
        return _hearth.call(self, pool, handler, payload, args, timeout, options)

    def submit(self, pool, handler, payload=b"", *args, timeout=None, options=(), callback=None, error_callback=None):
        """Runs a task; at once a concurrent.futures.Future. The callbacks are called with its result, or its exception, by a
        thread of this process. A task that is queued can be cancelled, and one that runs as well."""
        return Submitter.of(self).submit(pool, handler, payload, args, timeout, options, callback, error_callback)

    def map(self, pool, handler, payloads, *args, timeout=None, options=(), ordered=True, window=0):
        """An iterator over the results of the task for each of the payloads, any number of them, in their order, or as they
        come. Runs no more than `window` ahead. A task that fails raises, and the iterator goes on after it."""
        return _hearth.Imap(self, pool, handler, payloads, args, timeout, options, ordered, window)

    def __repr__(self):
        return f"hearth.connect({self.path!r})"


def connect(path=None, map=True):  # pylint: disable=redefined-builtin
    """The daemon at a path (None: $HEARTH_SOCKET, or the usual place). With `map`, work on shared objects is done in the daemon's
    memory if it lets this user (map_users); else, and without, over the socket."""
    with _lock:
        found = _clients.get((path, map))
        if found is None:
            found = _clients[path, map] = Client(path, map)
        return found


def _again(cls, client, name, raw):
    return cls(name, client=client, raw=raw)


class _Named:
    """Made with a name; goes to other processes as its name."""

    def __init__(self, name, *, client=None, raw=False):
        super().__init__(client or connect(), name, raw)

    def __reduce__(self):
        return _again, (type(self), self.client, self.name, self.raw)

    def __repr__(self):
        return f"<{type(self).__name__} {self.name!r}>"

    def __hash__(self):
        return hash((self.client.path, self.name))

    def _same(self, other):
        return isinstance(other, _Named) and self.name == other.name and self.client.path == other.client.path


class Dict(_Named, _hearth.Dict):
    """A dict by name, for every process of the machine (Redis's hash). With raw, keys and values are plain bytes, as other
    languages have them; else they are Python's objects, of which str and int are plain text too."""

    def __eq__(self, other):
        return self._same(other) or self.copy() == (other.copy() if isinstance(other, _hearth.Dict) else other)

    __hash__ = _Named.__hash__

    def __str__(self):
        return str(self.copy())

    def __reversed__(self):
        return reversed(self.keys())

    def __or__(self, other):
        return self.copy() | dict(other)

    def __ror__(self, other):
        return dict(other) | self.copy()

    def __ior__(self, other):
        self.update(other)
        return self

    def has_key(self, key):
        """As `key in`."""
        return key in self


class List(_Named, _hearth.List):
    """A list by name, for every process of the machine (Redis's list)."""

    def __eq__(self, other):
        return self._same(other) or self.copy() == (other.copy() if isinstance(other, _hearth.List) else other)

    __hash__ = _Named.__hash__

    def __str__(self):
        return str(self.copy())

    def __contains__(self, value):
        return value in self.copy()

    def __reversed__(self):
        return reversed(self.copy())

    def __add__(self, other):
        return self.copy() + list(other)

    def __mul__(self, n):
        return self.copy() * n

    __rmul__ = __mul__

    def __iadd__(self, other):
        self.extend(other)
        return self

    def __imul__(self, n):
        self._replace(self.copy() * n)
        return self

    def index(self, value, *bounds):
        """The index of the first that equals value. ValueError."""
        return self.copy().index(value, *bounds)

    def count(self, value):
        """How many equal value."""
        return self.copy().count(value)

    def remove(self, value):
        """Removes the first that equals value. ValueError. Of str, bytes and int in one step; of others it looks first."""
        if type(value) in (str, bytes) and self._remove_same(value):  # pylint: disable=unidiomatic-typecheck
            return
        self._cut(self.copy().index(value), 1)

    def sort(self, *, key=None, reverse=False):
        """As list.sort(). In one step if all are int; else what others do meanwhile may be lost."""
        if key is None and self._sort_numbers(reverse):
            return
        self._replace(sorted(self.copy(), key=key, reverse=reverse))

    def clear(self):
        """Removes everything."""
        self._cut(0, -1)

    def _replace(self, values):
        before = len(self)
        self.extend(values)
        self._cut(0, before)

    def _assign_slice(self, key, values):
        plain = self.copy()
        if values is None:
            start, stop, step = key.indices(len(plain))
            if step == 1:
                self._cut(start, max(0, stop - start))
                return
            del plain[key]
        else:
            plain[key] = values
        self._replace(plain)


class Value(_Named, _hearth.Value):
    """One value by name (Redis's string)."""

    value = property(lambda self: self.get(), lambda self, v: self.set(v), doc="What is there; None: nothing.")


class Namespace:
    """Attributes kept in a shared dict."""

    def __init__(self, name, *, client=None):
        self.__dict__["_dict"] = name if isinstance(name, _hearth.Dict) else Dict(name, client=client)

    def __getattr__(self, key):
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self._dict[key]
        except KeyError:
            raise AttributeError(key) from None

    def __setattr__(self, key, value):
        if key.startswith("_"):
            self.__dict__[key] = value
        else:
            self._dict[key] = value

    def __delattr__(self, key):
        try:
            del self._dict[key]
        except KeyError:
            raise AttributeError(key) from None

    def __reduce__(self):
        return type(self), (self._dict,)

    def __repr__(self):
        items = sorted(f"{k}={v!r}" for k, v in self._dict.items() if not str(k).startswith("_"))
        return f"Namespace({', '.join(items)})"
