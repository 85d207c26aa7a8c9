# SPDX-License-Identifier: MIT
"""Hearth for Python: tasks of warm worker pools, and dicts, lists and all of multiprocessing's objects, shared by name with every
other process of the machine.

    import hearth
    hearth.connect().call("text", "words", b"some text")     # run a function of a pool
    hearth.Dict("settings")["colour"] = "red"                # any program: redis-cli HGET settings colour
    from hearth import multiprocessing                       # as Python's own

Where the daemon is: $HEARTH_SOCKET, or /run/hearth/hearth.sock, unless connect() is told."""
from hearth.errors import *  # noqa: F401,F403  pylint: disable=wildcard-import,unused-wildcard-import
from hearth.objects import Client, Dict, List, Namespace, Value, connect
from hearth.managers import Manager
from hearth.executor import Executor, ProcessPoolExecutor
from hearth.sync import (Array, Barrier, BoundedSemaphore, Condition, Event, Lock, Pipe, PipeEnd, Queue, RLock, RWLock,
                         Semaphore)
from _hearth import ALWAYS, IF_ABSENT, IF_PRESENT

__all__ = ["ALWAYS", "IF_ABSENT", "IF_PRESENT", "Array", "Barrier", "BoundedSemaphore", "Client", "Condition", "Dict", "Event", "Executor",
           "List", "Lock", "Manager", "Namespace", "Pipe", "PipeEnd", "ProcessPoolExecutor", "Queue", "RLock", "RWLock", "Semaphore",
           "Value", "connect"]
