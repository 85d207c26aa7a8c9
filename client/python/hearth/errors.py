# SPDX-License-Identifier: MIT
"""What may go wrong. All are hearth.Error; those that mean what an exception of Python means are that too."""


class Error(Exception):
    """Something that hearthd or libhearth says no to."""


class Refused(Error, PermissionError):
    """The daemon said no, in words."""

    __str__ = Exception.__str__


class ReplyError(Error):
    """The daemon's error reply to a command."""


class NoPool(Error, LookupError):
    """There is no pool of that name."""


class NoHandler(Error, LookupError):
    """The pool has no handler of that name."""


class Busy(Error):
    """The pool's queue is full, or somebody sits on a lock in memory."""


class OutOfMemory(Error, MemoryError):
    """The daemon's shared memory is full; nothing has changed."""


class Quota(Error, MemoryError):
    """A user would have more objects, or bytes in them, than the daemon's limits let him."""


class NoTask(Error, LookupError):
    """No task of that id."""


class Timeout(Error, TimeoutError):
    """Not in time."""

    __str__ = Exception.__str__


class Disconnected(Error, ConnectionError):
    """The connection to the daemon is lost. The next call connects again."""

    __str__ = Exception.__str__


class Absent(Error, LookupError):
    """No such shared object, or part of one."""


class Exists(Error):
    """There is one already."""


class WrongType(Error, TypeError):
    """The shared object is of another type."""


class NotANumber(Error, ValueError):
    """Not a number, or the sum is none."""


class Unexpected(Error):
    """A transaction found something that was to be otherwise."""


class Ended(Error, ReferenceError):
    """The object, or the manager it belongs to, has ended."""


class NotOwner(Error, RuntimeError):
    """It is not this thread that holds it."""


class Deadlock(Error, RuntimeError):
    """To wait would close a circle in which each waits for another."""


class Broken(Error, RuntimeError):
    """The barrier is broken."""


class Closed(Error, ValueError):
    """The queue, or the other end of the pipe, is closed."""


class TooMany(Error, ValueError):
    """More is given back than was taken."""


class TaskError(Error):
    """A task has ended, and not well. `cause` says how, in one line; `code` is the handler's or the command's; `id` the task's."""

    def __init__(self, cause="", code=0, id=""):  # pylint: disable=redefined-builtin
        super().__init__(cause, code, id)
        self.cause, self.code, self.id = cause, code, id

    def __str__(self):
        return self.cause


class TaskFailed(TaskError):
    """The handler said so, or the command's exit status."""


class TaskLost(TaskError):
    """Its worker died."""


class TaskTimeout(TaskError):
    """It was over its time limit."""


class TaskCancelled(TaskError):
    """Somebody has cancelled it, or the daemon stopped."""


class TaskExpired(TaskError):
    """It was not begun in time."""
