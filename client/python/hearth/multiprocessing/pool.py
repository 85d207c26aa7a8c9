# SPDX-License-Identifier: MIT
"""Pool: multiprocessing's, whose get() and join() never wait for a worker that is dead.

Each worker has a socket of its own and no lock is shared, so a worker killed at any moment leaves nothing locked. Tasks are sent
ahead, a few to each worker, and each has a byte in shared memory which worker and pool contend for: the worker claims the task
before it runs it, the pool takes back what is not yet claimed, when another worker is idle or when its worker has died. So it is
known of each task whether it had begun: those that had end with WorkerLost, the others are run by others.

One thread reads results, calls back, replaces workers that have ended, and feeds. Whoever submits sends by itself."""
import collections
import os
import pickle
import select
import signal
import socket
import struct
import threading
import traceback
import warnings
from multiprocessing import ProcessError, TimeoutError, pool as _stdlib, util  # noqa: F401  pylint: disable=redefined-builtin,unused-import
from multiprocessing.pool import (CLOSE, INIT, RUN, TERMINATE, ApplyResult, AsyncResult, IMapIterator,  # noqa: F401
                                  IMapUnorderedIterator, MapResult, MaybeEncodingError, RemoteTraceback, ThreadPool)
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import RawArray

import _hearth

_HEAD = struct.Struct("<QI")  # length of the pickle that follows, slot
_READY = 0xffffffff
_SLOTS = 1 << 16
_FREE, _OFFERED, _CLAIMED, _REVOKED = range(4)
_AHEAD = 16  # tasks with a worker, claimed and not
_AGAIN = 0.2  # seconds until another worker is tried for, when none could be started
_BIG = 1 << 16  # bytes under way to a worker from which on nothing more is sent ahead


class WorkerLost(ProcessError, RuntimeError):
    """The worker that ran the task died: `signal` is what killed it, or None, `exitcode` what it ended with, `pid` its own."""

    def __init__(self, text, exitcode=None, pid=None):
        super().__init__(text, exitcode, pid)
        self.exitcode, self.pid = exitcode, pid
        self.signal = -exitcode if exitcode is not None and exitcode < 0 else None

    def __str__(self):
        return self.args[0]


def _lost(process):
    code = process.exitcode
    if code is not None and code < 0:
        try:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            how = f"was killed by signal {-code}"
    else:
        how = f"ended with status {code}"
    return WorkerLost(f"the worker (pid {process.pid}) {how} while it ran the task", code, process.pid)


# ---- the worker ----

def _write(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


class _Frames:
    """Messages out of a descriptor."""

    def __init__(self, fd):
        self.fd, self.data = fd, bytearray()

    def next(self):
        """(slot, pickle), if it is here."""
        if len(self.data) >= _HEAD.size:
            length, slot = _HEAD.unpack_from(self.data)
            end = _HEAD.size + length
            if len(self.data) >= end:
                body = bytes(memoryview(self.data)[_HEAD.size:end])
                del self.data[:end]
                return slot, body
        return None

    def more(self):
        """Reads; False at the end."""
        size = 1 << 16
        if len(self.data) >= _HEAD.size:
            size = max(size, min(_HEAD.unpack_from(self.data)[0], 1 << 24))
        piece = os.read(self.fd, size)
        self.data += piece
        return len(piece) > 0


def _answer(fd, slot, answer):
    try:
        body = ForkingPickler.dumps(answer)
    except Exception as e:  # pylint: disable=broad-except
        wrapped = MaybeEncodingError(e, answer[2][1])
        util.debug("Possible encoding error while sending result: %s", wrapped)
        body = ForkingPickler.dumps((answer[0], answer[1], (False, wrapped)))
    _write(fd, _HEAD.pack(len(body), slot) + bytes(body))


def worker(conn, claims, close, initializer, initargs, maxtasks, wrap):
    """What a worker process does."""
    for fd in close:
        os.close(fd)
    fd = conn.fileno()
    if initializer is not None:
        initializer(*initargs)
    _write(fd, _HEAD.pack(0, _READY))
    frames, done = _Frames(fd), 0
    while maxtasks is None or done < maxtasks:
        frame = frames.next()
        if frame is None:
            if not frames.more():
                break
            continue
        slot, body = frame
        if not _hearth.exchange(claims, slot, _OFFERED, _CLAIMED):
            continue  # taken back
        job = i = None
        try:
            job, i, func, args, kwds = pickle.loads(body)
            result = (True, func(*args, **kwds))
        except Exception as e:  # pylint: disable=broad-except
            if wrap and (job is None or func is not _stdlib._helper_reraises_exception):
                e = _stdlib.ExceptionWithTraceback(e, e.__traceback__)
            result = (False, e)
        del frame, body
        func = args = kwds = None
        _answer(fd, slot, (job, i, result))
        del result
        done += 1
    util.debug("worker exiting after %d tasks", done)


# ---- the pool's side of it ----

class _Task:
    __slots__ = ("job", "i", "body", "number")

    def __init__(self, job, i, body):
        self.job, self.i, self.body, self.number = job, i, body, 0


class _Worker:
    def __init__(self, process, sock):
        self.process, self.sock, self.fd = process, sock, sock.fileno()
        self.frames = _Frames(self.fd)
        pid = getattr(process, "pid", None)  # a context may make what only looks like a process
        self.pidfd = os.pidfd_open(pid) if pid else os.eventfd(0, os.EFD_CLOEXEC)
        self.tasks = {}  # slot: task, in the order sent
        self.revoked = collections.deque()  # (number, slot): taken back, and the worker has not yet seen it
        self.out = bytearray()
        self.sent = self.given = 0  # given: not taken back
        self.ready = self.ended = False

    def close(self):
        """Lets go of its descriptors."""
        self.sock.close()
        os.close(self.pidfd)


class _Crew:
    """The workers and what they have to do: the part of a Pool that its thread knows."""

    def __init__(self, pool, make, processes, maxtasks):
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.processes, self.maxtasks, self.make = processes, maxtasks, make
        self.list, self.cache = pool._pool, pool._cache
        self.lock = threading.Lock()
        self.room = threading.Condition(self.lock)
        self.workers = []
        self.backlog = collections.deque()
        self.claims = RawArray("B", _SLOTS)  # which children inherit, or are sent
        self.free = list(range(_SLOTS - 1, -1, -1))
        self.state = RUN
        self.feeders = 0
        self.stillborn = 0  # workers that died one after the other before they were ready
        self.poll = select.epoll()
        self.poll.register(self.bell, select.EPOLLIN)
        self.by_fd = {}

    def __del__(self):
        os.close(self.bell)

    # -- workers; with the lock

    def hire(self):
        """Starts workers until there are enough."""
        while len(self.workers) < self.processes:
            ours, theirs = socket.socketpair()
            try:
                process = self.make(theirs, self.claims, [w.fd for w in self.workers] + [ours.fileno()])
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            ours.setblocking(False)
            w = _Worker(process, ours)
            self.workers.append(w)
            self.list.append(process)
            for fd in (w.fd, w.pidfd):
                self.by_fd[fd] = w
                self.poll.register(fd, select.EPOLLIN)

    def bury(self, w):
        """A worker has ended: what it had begun is lost, what not is done by others. The tasks that are lost."""
        self.workers.remove(w)
        for fd in (w.fd, w.pidfd):
            self.poll.unregister(fd)
            del self.by_fd[fd]
        w.process.join()
        if w.process in self.list:
            self.list.remove(w.process)
        w.close()
        lost, back = [], []
        for slot, task in w.tasks.items():
            (back if _hearth.exchange(self.claims, slot, _OFFERED, _FREE) else lost).append(task)
            self.release(slot)
        for _, slot in w.revoked:
            self.release(slot)
        self.backlog.extendleft(reversed(back))
        self.stillborn = 0 if w.ready else self.stillborn + 1
        return lost

    def release(self, slot):
        self.claims[slot] = _FREE
        self.free.append(slot)

    # -- tasks; with the lock

    def may_have(self, w):
        """How many tasks more a worker may be given."""
        if len(w.out) >= _BIG:
            return 0
        n = _AHEAD - len(w.tasks)
        return n if self.maxtasks is None else min(n, self.maxtasks - w.given)

    def give(self, w, task):
        """Makes it the worker's; the bytes to be sent."""
        slot = self.free.pop()
        self.claims[slot] = _OFFERED
        w.tasks[slot] = task
        w.given += 1
        w.sent += 1
        task.number = w.sent
        return _HEAD.pack(len(task.body), slot) + task.body

    def send(self, w, data):
        """What does not go at once goes when there is room."""
        if not w.out:
            try:
                n = w.sock.send(data)
            except BlockingIOError:
                n = 0
            except OSError:
                return  # dead: its burial takes the tasks back
            if n == len(data):
                return
            data = memoryview(data)[n:]
            self.poll.modify(w.fd, select.EPOLLIN | select.EPOLLOUT)
        w.out += data

    def flush(self, w):
        try:
            n = w.sock.send(w.out)
        except BlockingIOError:
            return
        except OSError:
            n = len(w.out)
        del w.out[:n]
        if not w.out:
            self.poll.modify(w.fd, select.EPOLLIN)

    def least_busy(self):
        """The worker with the fewest tasks of those that may have one more."""
        best, least = None, _AHEAD
        for w in self.workers:
            n = len(w.tasks)
            if n < least and self.may_have(w) > 0:
                best, least = w, n
        return best

    def assign(self):
        """Gives out what waits, evenly: to each worker one before to any a second."""
        data = {}
        while self.backlog and self.free and (w := self.least_busy()) is not None:
            data.setdefault(w, []).append(self.give(w, self.backlog.popleft()))
            if len(data[w][-1]) > _BIG:
                self.send(w, b"".join(data.pop(w)))
        for w, frames in data.items():
            self.send(w, frames[0] if len(frames) == 1 else b"".join(frames))
        if not self.backlog and not all(w.tasks for w in self.workers):
            self.even_out()

    def even_out(self):
        """An idle worker is given what a busy one has not begun."""
        for idle in self.workers:
            if idle.tasks or self.may_have(idle) <= 0:
                continue
            busiest = max(self.workers, key=lambda w: len(w.tasks))
            if len(busiest.tasks) < 2:
                return
            for slot in reversed(busiest.tasks):
                if _hearth.exchange(self.claims, slot, _OFFERED, _REVOKED):
                    task = busiest.tasks.pop(slot)
                    busiest.given -= 1
                    busiest.revoked.append((task.number, slot))
                    self.send(idle, self.give(idle, task))
                    break

    def finished(self, w, slot):
        """A worker has answered: what was sent to it before, it has seen. The task."""
        task = w.tasks.pop(slot)
        self.release(slot)
        while w.revoked and w.revoked[0][0] < task.number:
            self.release(w.revoked.popleft()[1])
        return task

    def put(self, task):
        """From any thread."""
        with self.lock:
            if self.state == TERMINATE:
                return
            self.backlog.append(task)
            self.assign()

    # -- the thread

    def run(self):
        """Until all is done and the pool closed, or it is terminated."""
        again = None
        while True:
            for fd, events in self.poll.poll(again):
                w = self.by_fd.get(fd)
                if w is not None:
                    self.serve(w, fd, events)
                elif fd == self.bell:
                    os.eventfd_read(fd)
            with self.lock:
                if self.state == RUN or (self.state == CLOSE and (self.backlog or self.feeders or any(w.tasks for w in self.workers))):
                    again = None
                    if len(self.workers) < self.processes:
                        try:
                            self.hire()
                        except OSError:  # no processes, memory, descriptors: for now
                            again = _AGAIN
                        self.assign()
                    self.room.notify_all()
                    continue
                workers, self.workers = self.workers, []
            self.end(workers)
            return

    def serve(self, w, fd, events):
        """A worker's socket or its end."""
        if fd == w.pidfd:
            w.ended = True
            while self.read(w):
                pass
            with self.lock:
                lost = self.bury(w)
                if self.stillborn > 3 * self.processes:
                    lost += self.backlog
                    self.backlog.clear()
            error = _lost(w.process)
            for task in lost:
                self.tell(task.job, task.i, (False, error))
            return
        if events & select.EPOLLOUT:
            with self.lock:
                self.flush(w)
        if events & (select.EPOLLIN | select.EPOLLHUP) and not self.read(w):
            self.poll.modify(w.fd, 0)  # what remains is to hear of its death

    def read(self, w):
        """One read, and what came whole. False: there is no more to come."""
        try:
            if not w.frames.more():
                return False
        except OSError as e:
            return isinstance(e, BlockingIOError) and not w.ended
        results = []
        with self.lock:
            while (frame := w.frames.next()) is not None:
                slot, body = frame
                if slot == _READY:
                    w.ready = True
                    continue
                results.append((self.finished(w, slot), body))
            self.assign()
        for task, body in results:
            try:
                job, i, result = pickle.loads(body)
            except Exception as e:  # pylint: disable=broad-except
                job, i, result = task.job, task.i, (False, e)
            self.tell(job, i, result)
        return True

    def tell(self, job, i, result):
        """The result of a task; calls back."""
        try:
            self.cache[job]._set(i, result)
        except KeyError:
            pass
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc()

    def end(self, workers):
        """The last of the thread."""
        terminated = self.state == TERMINATE
        for w in workers:
            if terminated and w.process.exitcode is None:
                w.process.terminate()
            w.sock.shutdown(socket.SHUT_WR)
        for w in workers:
            w.process.join()
            w.close()
        if terminated:
            self.abandon()
        self.poll.close()

    def abandon(self):
        """Whoever waits for what will not be done is told; nobody is called back."""
        error = WorkerLost("the pool was terminated before the task had ended")
        with self.lock:
            self.backlog.clear()
            self.room.notify_all()
        for result in list(self.cache.values()):
            if isinstance(result, ApplyResult):
                result._success, result._value = False, error
                result._event.set()
            else:
                with result._cond:
                    result._items.append((False, error))
                    result._length = result._index + len(result._items)
                    result._cond.notify_all()
        self.cache.clear()

    def change(self, state):
        """Closes or terminates."""
        with self.lock:
            if self.state != TERMINATE:
                self.state = state
        os.eventfd_write(self.bell, 1)


class _TaskQueue:
    """What the standard library's Pool puts tasks into."""

    def __init__(self, crew):
        self.crew = crew

    def put(self, tasks):
        """(tasks, set_length)"""
        tasks, set_length = tasks
        if set_length is None:
            for task in tasks:
                self.one(task)
            return
        with self.crew.lock:
            self.crew.feeders += 1
        threading.Thread(target=self.feed, args=(tasks, set_length), name="hearth-pool-feed", daemon=True).start()

    def one(self, task):
        """Pickles a task and hands it on."""
        job, i = task[:2]
        try:
            body = bytes(ForkingPickler.dumps(task))
        except Exception as e:  # pylint: disable=broad-except
            self.crew.tell(job, i, (False, e))
            return
        self.crew.put(_Task(job, i, body))

    def feed(self, tasks, set_length):
        """An iterable, as there is room."""
        crew, i = self.crew, -1
        try:
            for task in tasks:
                with crew.lock:
                    while len(crew.backlog) > 2 * crew.processes and crew.state != TERMINATE:
                        crew.room.wait()
                    if crew.state == TERMINATE:
                        return
                i = task[1]
                self.one(task)
            set_length(i + 1)
        finally:
            with crew.lock:
                crew.feeders -= 1
            os.eventfd_write(crew.bell, 1)


class Pool(_stdlib.Pool):
    """multiprocessing.Pool."""

    def __init__(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None):  # pylint: disable=super-init-not-called
        from hearth.multiprocessing import context as _context  # pylint: disable=import-outside-toplevel
        self._pool, self._cache, self._state = [], {}, INIT
        self._ctx = context or _context.default.get_context()
        if processes is None:
            processes = os.cpu_count() or 1
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        ctx, make, wrap = self._ctx, self.Process, self._wrap_exception
        forks = ctx.get_start_method() == "fork"

        def start(conn, claims, close):
            process = make(ctx, target=worker, args=(conn, claims, close if forks else (), initializer, initargs, maxtasksperchild, wrap))
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            process.start()
            return process
        self._crew = crew = _Crew(self, start, processes, maxtasksperchild)
        self._taskqueue = _TaskQueue(crew)
        try:
            self._repopulate_pool()
        except Exception:
            for p in self._pool:
                p.terminate()
                p.join()
            raise
        self._thread = threading.Thread(target=crew.run, name="hearth-pool", daemon=True)
        self._thread.start()
        self._terminate = util.Finalize(self, _end, args=(crew, self._thread), exitpriority=15)
        self._state = RUN

    def _repopulate_pool(self):
        with self._crew.lock:
            self._crew.hire()

    def __del__(self, _warn=warnings.warn, RUN=RUN):
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)
            if getattr(self, "_crew", None) is not None:
                self._crew.change(CLOSE)

    def close(self):
        """No more tasks; the workers end when all are done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._crew.change(CLOSE)

    def terminate(self):
        """Ends the workers at once. Whoever waits for a task that has not ended gets WorkerLost."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self):
        """Waits until the workers have ended."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._thread.join()


def _end(crew, thread):
    crew.change(TERMINATE)
    if threading.current_thread() is not thread:
        thread.join()
