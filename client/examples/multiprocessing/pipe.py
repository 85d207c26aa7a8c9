#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A pipe: two messages from the child, and one back."""
from hearth import multiprocessing


def child(connection):
    connection.send("hello")
    connection.send("how are you?")
    print("parent says:", connection.recv(), flush=True)


if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=child, args=(theirs,))
    process.start()
    for _ in range(2):
        print("child says:", ours.recv(), flush=True)
    ours.send("fine, thank you")
    process.join()
