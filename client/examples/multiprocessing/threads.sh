#!/bin/sh
# SPDX-License-Identifier: MIT
# Ten processes, each of which prints its id and its thread's: /proc/thread-self says PID/task/THREAD to whoever looks.
for _ in 0 1 2 3 4 5 6 7 8 9; do
    hearth proc run readlink /proc/thread-self &
done
wait
