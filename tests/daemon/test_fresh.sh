#!/bin/sh
# SPDX-License-Identifier: MIT
# A newcomer's way: a copy of the tree with nothing built, and ./dev run in it. It builds everything once more, so it only
# runs when HEARTH_TEST_FRESH is set. Nothing may stay behind.
set -eu
if [ "${HEARTH_TEST_FRESH:-}" = '' ]; then
    echo "set HEARTH_TEST_FRESH=1 to run this"
    exit 77
fi
# What the other tests were given must not reach it: a newcomer has none of it.
unset HEARTHD HEARTH_WORKER HEARTH_CTL HEARTH_MODULE_PATH HEARTH_BUILD ASAN_OPTIONS UBSAN_OPTIONS

copy=$(mktemp -d /tmp/fresh.XXXXXX)
trap 'rm -rf "$copy"' EXIT
tar -C "$HEARTH_SOURCE" --exclude='./build*' --exclude=./.git -cf - . | tar -C "$copy" -xf -
export TMPDIR="$copy/tmp"
mkdir "$TMPDIR"
"$copy/dev" run </dev/null >"$copy/out" 2>&1 || {
    cat "$copy/out"
    exit 1
}
tail -n 25 "$copy/out"
grep -q '^verified: ' "$copy/out"
left=$(ls -A "$TMPDIR")
[ "$left" = '' ] || {
    echo "left behind: $left"
    exit 1
}
if pgrep -f "$copy/build" >&2; then
    echo "processes are left"
    exit 1
fi
