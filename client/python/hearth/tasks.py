# SPDX-License-Identifier: MIT
"""Tasks without waiting: one thread of the process submits for all others, and calls back."""
import collections
import os
import threading
from concurrent.futures import CancelledError, Future

import _hearth
from hearth.errors import TaskCancelled


class _TaskFuture(Future):
    """Can also be cancelled while its task runs: then it is done when the daemon says so."""

    _submitter = _ticket = None

    def cancel(self):
        if super().cancel():
            return True
        if self.done():
            return False
        self._submitter.put(self._submitter.cancel_now, self)
        return False


class Submitter:
    """Turns a Loop in a thread of its own, which is there as long as something is outstanding or the connection lasts."""

    _all = {}
    _lock = threading.Lock()

    @classmethod
    def of(cls, client):
        """The one of a client in this process."""
        with cls._lock:
            found = cls._all.get(client)
            if found is None:
                found = cls._all[client] = cls(client)
            return found

    def __init__(self, client):
        self.client = client
        self.work = collections.deque()
        self.awake = False
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.thread = None
        self.lock = threading.Lock()
        self.outstanding = set()

    def put(self, *work):
        """Has the thread call work[0](loop, *work[1:])."""
        with self.lock:
            self.work.append(work)
            if self.thread is None:
                self.awake = True
                self.thread = threading.Thread(target=self.run, name="hearth-submit", daemon=True)
                self.thread.start()
            if self.awake:
                return
            self.awake = True
        os.eventfd_write(self.bell, 1)

    def submit(self, pool, handler, payload, args, timeout, options, callback=None, error_callback=None):
        """See Client.submit()."""
        future = _TaskFuture()
        future._submitter = self
        if callback or error_callback:
            future.add_done_callback(lambda f: _call(f, callback, error_callback))
        self.put(self.submit_now, future, pool, handler, payload, args, timeout, options)
        return future

    def submit_now(self, loop, future, *task):
        """In the thread."""
        if not future.set_running_or_notify_cancel():
            return

        def done(result, error):
            self.outstanding.discard(future)
            if isinstance(error, TaskCancelled):
                error = CancelledError(str(error))
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.outstanding.add(future)
        try:
            future._ticket = loop.submit(*task, done)
        except Exception as error:  # pylint: disable=broad-except
            done(None, error)

    @staticmethod
    def cancel_now(loop, future):
        """In the thread."""
        if future._ticket is not None and not future.done():
            loop.cancel(future._ticket)

    def run(self):
        """The thread. It ends when the connection is lost: the next put() begins anew."""
        while True:
            try:
                self.turn(_hearth.Loop(self.client))
            except Exception as error:  # pylint: disable=broad-except
                self.lost(error)
            with self.lock:
                if not self.work:
                    self.thread = None
                    return

    def turn(self, loop):
        """Until the connection is lost, which raises."""
        while True:
            while self.work:
                work = self.work.popleft()
                work[0](loop, *work[1:])
            with self.lock:
                if self.work:
                    continue
                self.awake = False
            loop.turn(self.bell)
            self.awake = True
            try:
                os.eventfd_read(self.bell)
            except BlockingIOError:
                pass

    def lost(self, error):
        """Nobody waits for ever."""
        while self.work:
            work = self.work.popleft()
            if work[0] == self.submit_now and work[1].set_running_or_notify_cancel():
                work[1].set_exception(error)
        for future in list(self.outstanding):
            self.outstanding.discard(future)
            if not future.done():
                future.set_exception(error)


def _call(future, callback, error_callback):
    error = None if future.cancelled() else future.exception()
    if future.cancelled() or error is not None:
        if error_callback:
            error_callback(error or CancelledError())
    elif callback:
        callback(future.result())


def _after_fork():
    Submitter._all = {}
    Submitter._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
