# SPDX-License-Identifier: MIT
"""concurrent.futures.Executor over a pool of the daemon."""
from concurrent.futures import Executor as _Executor

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
            for future in pending:
                if not future.cancelled():
                    future.exception()
