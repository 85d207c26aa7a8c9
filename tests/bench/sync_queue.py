# SPDX-License-Identifier: MIT
"""multiprocessing's queue and pipe, to be compared with: sync_queue.py COUNT prints items a second from one process to another
through a Queue, and round trips a second over a Pipe."""

import multiprocessing
import sys
import time


def put_all(queue, count):
    for _ in range(count):
        queue.put(ITEM)


def echo(pipe, count):
    for _ in range(count):
        pipe.send_bytes(pipe.recv_bytes())


ITEM = b"x" * 64
context = multiprocessing.get_context("fork")
count = int(sys.argv[1])

queue = context.Queue()
child = context.Process(target=put_all, args=(queue, count), daemon=True)
began = time.perf_counter()
child.start()
for _ in range(count):
    queue.get()
rate = count / (time.perf_counter() - began)
child.join()

ours, theirs = context.Pipe()
child = context.Process(target=echo, args=(theirs, count), daemon=True)
child.start()
began = time.perf_counter()
for _ in range(count):
    ours.send_bytes(ITEM)
    ours.recv_bytes()
trips = count / (time.perf_counter() - began)
child.join()
print(f"{rate:.0f} {trips:.0f}")
