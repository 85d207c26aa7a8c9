#!/bin/sh
# SPDX-License-Identifier: MIT
# A pipe: two messages from the child, and one back. The parent has end 0, the child end 1. Each command here opens an end and closes
# it, and a pipe is over when nobody holds an end any more: so each side says all it has to say by one command.
[ "$HEARTH_MANAGER" ] || exec hearth manager run -- "$0"
there=${HEARTH_MANAGER}there back=${HEARTH_MANAGER}back
hearth pipe "$there" create --simplex
hearth pipe "$back" create --simplex

child() {
    hearth pipe "$there" send 1 hello 'how are you?'
    hearth pipe "$back" recv 0 | sed 's/^/parent says: /'
}
child &
hearth pipe "$there" recv 0 2 | sed 's/^/child says: /'
hearth pipe "$back" send 1 'fine, thank you'
wait
