# SPDX-License-Identifier: MIT
"""concurrent.futures.Executors: over a pool of the daemon, and over processes of this program."""
import collections
import os
import threading
from concurrent.futures import Executor as _Executor
from concurrent.futures import Future
from concurrent.futures import wait as _wait

from hearth import objects
from hearth.tasks import Submitter


class Executor(_Executor):
    """Runs handlers of one of the daemon's pools: submit(handler, payload, *args) gives a Future of the result, bytes.

        with hearth.Executor("text") as e:
            print(e.submit("words", b"three short words").result())"""

    def __init__(self, pool, *, client=None, timeout=None, options=()):
        self._pool, self._client = pool, client or objects.connect()
        self._timeout, self._options = timeout, options
        self._submitter = Submitter.of(self._client)
        self._shut = False
        self._futures = set()

    def submit(self, handler, payload=b"", /, *args, timeout=None, options=()):
        """Queues a task. Its Future can be cancelled, also while it runs."""
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = self._submitter.submit(self._pool, handler, payload, args, timeout or self._timeout,
                                        (*self._options, *options))
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._shut = True
        pending = list(self._futures)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if wait:
            _wait(pending)


class ProcessPoolExecutor(_Executor):
    """concurrent.futures.ProcessPoolExecutor over hearth.multiprocessing's Pool: when a worker is killed its task ends with WorkerLost,
    and the others go on, where the standard library's breaks as a whole."""

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), *, max_tasks_per_child=None):
        from hearth.multiprocessing import context, pool  # pylint: disable=import-outside-toplevel
        workers = os.cpu_count() or 1 if max_workers is None else max_workers
        if workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._ahead = workers + 4
        self._pool = pool.Pool(workers, initializer, initargs, max_tasks_per_child, mp_context or context.default.get_context())
        self._waiting = collections.deque()
        self._running = 0
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._shut = False

    def submit(self, fn, /, *args, **kwargs):
        """Runs fn(*args, **kwargs) in a worker."""
        future = Future()
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append((future, fn, args, kwargs))
        self._feed()
        return future

    def map(self, fn, *iterables, timeout=None, chunksize=1):
        """As ProcessPoolExecutor.map()."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        every = iter(zip(*iterables))
        chunks = iter(lambda: [x for _, x in zip(range(chunksize), every)], [])
        results = super().map(_Each(fn), chunks, timeout=timeout)
        return (r for chunk in results for r in chunk)

    def _feed(self):
        while True:
            with self._lock:
                if not self._waiting or self._running >= self._ahead:
                    return
                future, fn, args, kwargs = self._waiting.popleft()
                if not future.set_running_or_notify_cancel():
                    continue
                self._running += 1
            self._pool.apply_async(fn, args, kwargs, _Done(self, future.set_result), _Done(self, future.set_exception))

    def _done(self):
        with self._lock:
            self._running -= 1
            if not self._running and not self._waiting:
                self._idle.notify_all()
        self._feed()

    def shutdown(self, wait=True, *, cancel_futures=False):
        with self._lock:
            self._shut = True
            if cancel_futures:
                while self._waiting:
                    self._waiting.popleft()[0].cancel()
        if wait:
            with self._lock:
                while self._running or self._waiting:
                    self._idle.wait()
            self._pool.close()
            self._pool.join()
        else:
            threading.Thread(target=self.shutdown, name="hearth-shutdown").start()


class _Each:
    """A function over a chunk."""

    def __init__(self, fn):
        self.fn = fn

    def __call__(self, chunk):
        return [self.fn(*args) for args in chunk]


class _Done:
    def __init__(self, executor, tell):
        self.executor, self.tell = executor, tell

    def __call__(self, result):
        try:
            self.tell(result)
        finally:
            self.executor._done()
