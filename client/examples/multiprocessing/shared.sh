#!/bin/sh
# SPDX-License-Identifier: MIT
# Ten processes that write into one dict and one list, which go when this script has ended.
[ "$HEARTH_MANAGER" ] || exec hearth manager run -- "$0"
dict=${HEARTH_MANAGER}dict list=${HEARTH_MANAGER}list

for i in 0 1 2 3 4 5 6 7 8 9; do
    (hearth dict "$dict" set "$i" $((i * i)) && hearth list "$list" push "$i") >/dev/null &
done
wait
echo "dict: $(hearth dict "$dict" items | sort -n | tr '\t\n' '= ')"
echo "list: $(hearth list "$list" range | sort -n | tr '\n' ' ')"
