#!/bin/sh
# SPDX-License-Identifier: MIT
# A queue that a child fills and the parent reads. In the scope of a manager: the queue goes when this script has ended.
[ "$HEARTH_MANAGER" ] || exec hearth manager run -- "$0"
queue=${HEARTH_MANAGER}queue

(hearth queue "$queue" put 42 'a text' 'the last one' && hearth queue "$queue" close) &
hearth queue "$queue" get all
wait
