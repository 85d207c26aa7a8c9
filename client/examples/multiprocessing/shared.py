#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ten processes that write into one dict and one list."""
from hearth import multiprocessing


def child(squares, numbers, i):
    squares[i] = i * i
    numbers.append(i)


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        a_dict, a_list = manager.dict(), manager.list()
        processes = [multiprocessing.Process(target=child, args=(a_dict, a_list, i)) for i in range(10)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        print("dict:", *(f"{i}={square}" for i, square in sorted(a_dict.items())))
        print("list:", *sorted(a_list))
