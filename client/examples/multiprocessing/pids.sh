#!/bin/sh
# SPDX-License-Identifier: MIT
# Parent and child, and their process ids. The child is the daemon's, so that it can outlive who started it.
# shellcheck disable=SC2016  # $$ and $PPID are the child's
hearth proc run sh -c 'echo "child: my pid is $$, hearthd'"'"'s is $PPID, started by $0"' "$$"
echo "parent: my pid is $$"
