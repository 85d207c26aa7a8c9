#!/bin/sh
# SPDX-License-Identifier: MIT
# A worker of a Hearth pool in plain shell: an example of how little it takes. In hearthd.conf:
#
#     pools = ( { name = "upper"; workers = 2;
#                 program = [ "/bin/sh", "PATH/hearth-worker.sh", "tr", "a-z", "A-Z" ]; } );
#
# For each task the command is run with the task's arguments behind its own: the payload is its stdin, its stdout the
# result, an exit status other than 0 a failure with stderr as its message. Any bytes will do. (An exec pool is this in C;
# use it, unless a worker of yours has something to keep between tasks.)
set -eu
: "${HEARTH_WORKER_FD:?is set by hearthd}" "${HEARTH_POOL:?}" "${1:?a command}"
eval "exec 3<&$HEARTH_WORKER_FD 4>&$HEARTH_WORKER_FD"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cr=$(printf '\r')

# say WORD...: a command; a word @FILE stands for the bytes of that file.
say() {
    {
        printf '*%d\r\n' $#
        for word; do
            case $word in
            @*) printf '$%d\r\n' "$(wc -c <"${word#@}")" && cat "${word#@}" && printf '\r\n' ;;
            *) printf '$%d\r\n%s\r\n' "$(printf %s "$word" | wc -c)" "$word" ;;
            esac
        done
    } >&4
}

# head_line: a line of the answer without its end, in $line. bulk FILE: a string of the answer into a file.
head_line() {
    IFS= read -r line <&3 || exit 0 # the daemon has gone
    line=${line%"$cr"}
}
bulk() {
    head_line
    head -c "${line#?}" <&3 >"$1"
    head -c 2 <&3 >/dev/null
}

say WORKER.JOIN "$HEARTH_POOL" HANDLERS run
head_line
[ "$line" = +OK ] || { echo "hearth-worker.sh: $line" >&2 && exit 1; }
own=$#
say WORKER.NEXT
while head_line; do
    case $line in
    '*0') exit 0 ;; # told to leave
    -*) echo "hearth-worker.sh: $line" >&2 && exit 1 ;;
    esac
    bulk "$work/id"
    bulk "$work/handler"
    bulk "$work/payload"
    head_line
    n=${line#?}
    while [ "$n" -gt 0 ]; do
        bulk "$work/arg"
        set -- "$@" "$(cat "$work/arg")"
        n=$((n - 1))
    done
    head_line && head_line && head_line # attempt, time left, user
    status=0
    "$@" <"$work/payload" >"$work/out" 2>"$work/err" 3<&- 4>&- || status=$?
    if [ $status -eq 0 ]; then
        say WORKER.DONE "@$work/id" "@$work/out" NEXT
    else
        say WORKER.FAIL "@$work/id" $status "@$work/err" NEXT
    fi
    # away with the task's arguments
    i=0 all=$#
    while [ $i -lt "$all" ]; do
        word=$1 && shift
        [ $i -ge "$own" ] || set -- "$@" "$word"
        i=$((i + 1))
    done
done
