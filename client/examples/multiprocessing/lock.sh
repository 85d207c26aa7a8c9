#!/bin/sh
# SPDX-License-Identifier: MIT
# Ten processes that print under one lock, word by word, so that the screen is not mixed up.
# shellcheck disable=SC2016  # $0 is the child's
for i in 0 1 2 3 4 5 6 7 8 9; do
    hearth lock tutorial:screen -- sh -c 'for word in hello from process; do printf "%s " $word; done; echo "$0"' $i &
done
wait
hearth del tutorial:screen >/dev/null
