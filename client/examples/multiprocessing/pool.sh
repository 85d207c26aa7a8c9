#!/bin/sh
# SPDX-License-Identifier: MIT
# A pool of three workers (or as many as the first word says) that runs ten tasks: by apply, one after the other, and by
# apply_async with a callback, which runs here.
# shellcheck disable=SC2016  # $0 and $PPID are the task's
square='sleep 0.05; echo "$0 squared is $(($0 * $0)) (worker $PPID)"'
hearth pool resize shell "${1:-3}" >/dev/null

# apply
for i in 0 1 2 3 4 5 6 7 8 9; do
    echo "apply: $(hearth call shell.run sh -c "$square" $i)"
done

# apply_async, then close and join: one who has submitted all waits for all
callback() {
    echo "callback in $$: $1"
}
ids=$(for i in 0 1 2 3 4 5 6 7 8 9; do hearth submit shell.run sh -c "$square" $i; done)
# shellcheck disable=SC2086  # they are ten words
hearth wait $ids | while IFS='	' read -r id result; do
    [ "$id" ] && callback "$result"
done
echo "all have ended"
