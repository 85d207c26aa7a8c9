# SPDX-License-Identifier: MIT
"""Locks and what else one waits for, queues, pipes and arrays, by name: the same objects for every process of the machine, and as
LOCK.*, QUEUE.* and so on for whoever speaks Redis's protocol. What holds something and dies lets it go, and the next owner is told.

The owner is the thread: what a thread holds when it ends is let go as well."""
import array
import queue
import threading
import time

import _hearth
from hearth.objects import _Named, connect


class _Sync(_Named):
    """Made with a name."""

    def __init__(self, name, *, client=None):  # pylint: disable=super-init-not-called
        _hearth.Object.__init__(self, client or connect(), name)

    def _again(self):
        return (self.name,), {"client": self.client}

    def __reduce__(self):
        args, more = self._again()
        return _make, (type(self), args, more)


def _make(cls, args, more):
    return cls(*args, **more)


class Lock(_hearth.Lock, _Sync):
    """One holder. Waiters are served in the order of their coming. `check`: a wait that closes a circle of waiters raises
    hearth.Deadlock. `any`: release() also of what another thread holds. owner_died says whether the holder before died holding it."""

    _recursive = False

    def __init__(self, name, *, client=None, check=True, any=False):  # pylint: disable=redefined-builtin
        _hearth.Lock.__init__(self, client or connect(), name, self._recursive, check, any)
        self._how = check, any

    def _again(self):
        return (self.name,), {"client": self.client, "check": self._how[0], "any": self._how[1]}


class RLock(Lock):
    """A Lock that its holder may take again, and gives back as often."""

    _recursive = True


class RWLock(_Sync, _hearth.RWLock):
    """Many readers or one writer: with lock.read(): ...; with lock.write(): ... Readers behind a waiting writer wait."""

    def read(self):
        """To be used in a with statement."""
        return _Held(self, self.acquire_read)

    def write(self):
        """To be used in a with statement."""
        return _Held(self, self.acquire_write)


class _Held:
    def __init__(self, lock, acquire):
        self.lock, self.acquire = lock, acquire

    def __enter__(self):
        self.acquire()
        return self.lock

    def __exit__(self, *_):
        self.lock.release()


class Semaphore(_Sync, _hearth.Semaphore):
    """So many units; made with `value` of them unless it is there. What a thread or process holds when it ends comes back."""

    _bounded = False

    def __init__(self, name, value=1, *, client=None):
        super().__init__(name, client=client)
        self._first = value
        self._create(value, self._bounded)

    def _again(self):
        return (self.name, self._first), {"client": self.client}


class BoundedSemaphore(Semaphore):
    """No more units are given back than there were at first: ValueError."""

    _bounded = True


class Event(_Sync, _hearth.Event):
    """Set or not."""


class Condition(_Sync, _hearth.Condition):
    """A condition with a Lock or RLock (None: an RLock whose name is the condition's and ":lock")."""

    def __init__(self, name, lock=None, *, client=None):
        super().__init__(name, client=client)
        self._lock = lock if lock is not None else RLock(name + ":lock", client=client)
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def _again(self):
        return (self.name, self._lock), {"client": self.client}

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *args):
        return self._lock.__exit__(*args)

    def wait(self, timeout=None):
        """Lets go of the lock until it is notified; holds it again then. False: not in time."""
        return self._wait(self._lock, timeout)

    def notify(self, n=1):
        """Wakes the n that have waited longest."""
        assert self._lock._is_mine(), "lock is not owned"
        self._notify(n)

    def notify_all(self):
        """Wakes all that wait."""
        assert self._lock._is_mine(), "lock is not owned"
        self._notify(-1)

    def wait_for(self, predicate, timeout=None):
        """Waits until predicate() is true; what it gave last."""
        result = predicate()
        end = None if timeout is None else time.monotonic() + timeout
        while not result:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result


class Barrier(_Sync, _hearth.Barrier):
    """So many wait until all are there. It breaks when one of them is too late, dies waiting, or aborts it: BrokenBarrierError.
    With an action, one of them calls it before any goes on."""

    def __init__(self, name, parties, action=None, timeout=None, *, client=None):
        super().__init__(name, client=client)
        self._parties, self._action, self._timeout = parties, action, timeout
        self._create(parties)
        # All come together, one acts, and all go on together.
        self._second = Barrier(name + ":go", parties, client=client) if action else None

    def _again(self):
        return (self.name, self._parties, self._action, self._timeout), {"client": self.client}

    def wait(self, timeout=None):
        """Waits for the others; a number from 0 to parties-1, another one for each."""
        if timeout is None:
            timeout = self._timeout
        index = self._wait(timeout)
        if index is None:
            raise threading.BrokenBarrierError
        if self._second is not None:
            if index == 0:
                try:
                    self._action()
                except BaseException:
                    self.abort()
                    raise
            if self._second._wait(timeout) is None:
                raise threading.BrokenBarrierError
        return index

    def reset(self):
        """As new; those that wait get BrokenBarrierError."""
        self._reset()
        if self._second is not None:
            self._second._reset()

    def abort(self):
        """Breaks it."""
        self._abort()
        if self._second is not None:
            self._second._abort()

    parties = property(lambda self: self._parties)
    n_waiting = property(lambda self: self._info()[1] if not self._info()[2] else 0)

    @property
    def broken(self):
        """Whether it is broken."""
        return self._info()[2] or (self._second is not None and self._second._info()[2])


class Queue(_Sync, _hearth.Queue):
    """A queue of what can be pickled, bounded if maxsize is given. `lease`: None: an item belongs to who got it; a number of
    seconds, or 0: lease() lends it out, and it comes back to the front when its taker dies, or after so long, unless done() is said."""

    def __init__(self, name, maxsize=0, *, lease=None, client=None):
        super().__init__(name, client=client)
        self._maxsize, self._lease_seconds = max(0, maxsize), lease
        if self._maxsize or lease is not None:
            self._create(self._maxsize, 0 if lease is None else int(lease * 1000) or -1)

    def _again(self):
        return (self.name, self._maxsize), {"client": self.client, "lease": self._lease_seconds}

    def put_nowait(self, item):
        """put() that does not wait: queue.Full."""
        return self.put(item, False)

    def get_nowait(self):
        """get() that does not wait: queue.Empty."""
        return self.get(False)

    def qsize(self):
        """How many items there are."""
        return self._info()[0]

    def empty(self):
        """Whether there is none."""
        return self._info()[0] == 0

    def full(self):
        """Whether a put() would wait."""
        items, most = self._info()[:2]
        return 0 < most <= items


Empty, Full = queue.Empty, queue.Full


class PipeEnd(_Sync, _hearth.Pipe):
    """One end of a pipe by name, as multiprocessing's Connection; end 0 receives what end 1 sends, and sends too if it is duplex.
    At the end (EOFError) when all that held the other end have closed it or died."""

    def __init__(self, name, end, *, client=None):
        super().__init__(name, client=client)
        self._end = end
        self._closed = False

    def _again(self):
        return (self.name, self._end), {"client": self.client}

    def _check(self):
        if self._closed:
            raise OSError("handle is closed")

    closed = property(lambda self: self._closed)

    def send_bytes(self, data, offset=0, size=None):
        """Sends a message."""
        self._check()
        view = memoryview(data).cast("B")
        if offset < 0 or offset > len(view) or (size is not None and (size < 0 or offset + size > len(view))):
            raise ValueError("offset and size are not within the message")
        self._send(self._end, view[offset:] if size is None else view[offset:offset + size], None)

    def send(self, thing):
        """Sends an object."""
        from multiprocessing.reduction import ForkingPickler  # pylint: disable=import-outside-toplevel
        self._check()
        self._send(self._end, ForkingPickler.dumps(thing), None)

    def recv_bytes(self, maxlength=None):
        """The next message. EOFError."""
        self._check()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = self._recv(self._end, None)
        if maxlength is not None and len(message) > maxlength:
            self.close()
            raise OSError("bad message length")
        return message

    def recv_bytes_into(self, buffer, offset=0):
        """The next message, into a buffer; its length."""
        from multiprocessing import BufferTooShort  # pylint: disable=import-outside-toplevel
        message = self.recv_bytes()
        view = memoryview(buffer).cast("B")
        if offset < 0 or offset > len(view):
            raise ValueError("the offset is not within the buffer")
        if len(message) > len(view) - offset:
            raise BufferTooShort(message)
        view[offset:offset + len(message)] = message
        return len(message)

    def recv(self):
        """The next object. EOFError."""
        from multiprocessing.reduction import ForkingPickler  # pylint: disable=import-outside-toplevel
        return ForkingPickler.loads(self.recv_bytes())

    def poll(self, timeout=0.0):
        """Whether something is there, or comes in time."""
        self._check()
        return self._poll(self._end, timeout)

    def close(self):
        """This thread is done with the end."""
        if not self._closed:
            self._closed = True
            self._close(self._end)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def Pipe(name, duplex=True, *, buffer=0, client=None):  # pylint: disable=invalid-name
    """The two ends of a pipe by name, made unless it is there. What sends or receives with an end holds it."""
    a, b = PipeEnd(name, 0, client=client), PipeEnd(name, 1, client=client)
    a._create(duplex, buffer)
    return a, b


class Array(_Sync, _hearth.Array):
    """n numbers of a type (as the module array has them, or "c") by name; made, of zeroes, unless it is there. Setting, adding and
    comparing one is atomic. get_lock() is an RLock, whose name is the array's and ":lock"."""

    def __init__(self, name, typecode, n=0, *, client=None):
        super().__init__(name, client=client)
        self.typecode = typecode
        self.made = self._open(typecode, n)
        self._lock = None

    def _again(self):
        return (self.name, self.typecode), {"client": self.client}

    def get_lock(self):
        """The lock that goes with it."""
        if self._lock is None:
            self._lock = RLock(self.name + ":lock", client=self.client)
        return self._lock

    def get_obj(self):
        """Itself."""
        return self

    def __enter__(self):
        return self.get_lock().__enter__()

    def __exit__(self, *args):
        return self.get_lock().__exit__(*args)

    def acquire(self, *args, **kwargs):
        """Of the lock."""
        return self.get_lock().acquire(*args, **kwargs)

    def release(self):
        """Of the lock."""
        return self.get_lock().release()

    def add(self, by, index=0):
        """Adds atomically; the sum."""
        return self._add(index, by)

    def swap(self, expected, value, index=0):
        """Sets it if it is as expected. Whether it did."""
        return self._cas(index, expected, value)

    value = property(lambda self: self.get(0), lambda self, v: self._set(0, v), doc="The first.")

    def _numbers(self, data=b""):
        return bytearray(data) if self.typecode == "c" else array.array(self.typecode, data)

    def __getitem__(self, key):
        if not isinstance(key, slice):
            return self.get(key)
        start, stop, step = key.indices(len(self))
        if step == 1:
            found = self._numbers(self._read(start, max(0, stop - start)))
        else:
            found = self._numbers(self._read(0, len(self)))[key]
        return bytes(found) if self.typecode == "c" else found.tolist()

    def __setitem__(self, key, value):
        if not isinstance(key, slice):
            self._set(key, value)
            return
        numbers = self._numbers(value if self.typecode == "c" else list(value))
        places = range(*key.indices(len(self)))
        if len(numbers) != len(places):
            raise ValueError("can only assign a sequence of the same size")
        if places.step == 1:
            self._write(places.start, numbers)
        else:
            for i, v in zip(places, numbers):
                self._set(i, v)

    def __iter__(self):
        return iter(self[:])

    def __repr__(self):
        return f"<Array {self.name!r} {self.typecode!r} {self[:]!r}>"
