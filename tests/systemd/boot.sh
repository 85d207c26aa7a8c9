#!/bin/bash
# SPDX-License-Identifier: MIT
# boot.sh CHECK, boot.sh RUN PREPARE COMMAND...
#
# Boots the systemd of this machine as the init of namespaces of its own, runs COMMAND beside it, powers it off, and ends with
# COMMAND's status; 125: it did not boot. CHECK only tells, by its status and a line, whether that can be done here.
#
# The root file system is an overlay over this machine's, with what is written in a tmpfs: nothing of it is left afterwards.
# /etc/systemd/system is emptied, so that no service of the machine runs; /run, /tmp and /dev are fresh; /sys and /proc/sys are
# read-only; the network is a loopback device. Directories named by BOOT_BIND (separated by colons) are there too, to be read.
# With BOOT_MEMORY=1 the memory of its services can be limited, on machines whose memory controller is of cgroup version 1, too.
# PREPARE is a script that is run by a shell inside, before systemd starts.
#
# In three steps, each in namespaces that the one before has made:
#   outside   starts the others, waits for the boot, enters for COMMAND, and cleans up
#   group     gives the whole its own control group; then come the namespaces of control groups and processes. Their order
#             matters: a cgroup2 that was mounted before the namespace was made shows the machine's groups, and this systemd
#             would move the machine's processes about.
#   root      builds the file system, goes there, and becomes systemd
set -eu
here=$(realpath "$0")

# ---- can it be done? ----

check() {
    [ "$(id -u)" = 0 ] || { echo "it takes root to make namespaces"; return 1; }
    for program in unshare nsenter setpriv pivot_root /lib/systemd/systemd; do
        command -v "$program" >/dev/null || { echo "there is no $program"; return 1; }
    done
    unshare --mount --ipc --uts --net --cgroup --pid --fork true 2>/dev/null || { echo "namespaces are not allowed"; return 1; }
    # shellcheck disable=SC2016
    unshare --mount --propagation private -- sh -c '
        mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r /mnt/g &&
        mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w overlay /mnt/r &&
        mount -t cgroup2 none /mnt/g && mkdir "/mnt/g/$1" && rmdir "/mnt/g/$1"' sh "hearth-check.$$" 2>/dev/null ||
        { echo "overlays and control groups cannot be mounted"; return 1; }
}

# ---- group ----

# of_version_1 NAME: this process's group there; "": there is none.
of_version_1() {
    sed -n "s/^[0-9]*:$1://p" /proc/self/cgroup
}

# join PATH MOUNT-ARGUMENT...: a group of our own below PATH.
join() {
    path=$1
    shift
    mount "$@" none "$BOOT/g"
    mkdir "$BOOT/g$path/$BOOT_GROUP"
    echo $$ >"$BOOT/g$path/$BOOT_GROUP/cgroup.procs"
    umount "$BOOT/g"
}

group() {
    mkdir "$BOOT/g"
    if [ -n "${BOOT_MEMORY:-}" ] && [ -n "$(of_version_1 memory)" ]; then
        join "$(of_version_1 memory)" -t cgroup -o memory
        join "$(of_version_1 name=systemd)" -t cgroup -o none,name=systemd
    else
        BOOT_MEMORY=''
    fi
    join '' -t cgroup2
    export BOOT_MEMORY
    exec unshare --cgroup --pid --fork --kill-child=KILL -- bash "$here" ROOT
}

# ---- root ----

devices() {
    mount -t tmpfs -o mode=755,nosuid tmpfs "$1"
    for name in null zero full random urandom tty; do
        : >"$1/$name"
        mount --bind "/dev/$name" "$1/$name"
    done
    mkdir "$1/pts" "$1/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$1/pts"
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$1/shm"
    ln -s pts/ptmx "$1/ptmx"
    ln -s /proc/self/fd "$1/fd"
    ln -s fd/0 "$1/stdin"
    ln -s fd/1 "$1/stdout"
    ln -s fd/2 "$1/stderr"
    : >"$1/console"
    mount --bind /dev/null "$1/console"
}

# A machine with nothing to do: one target, and a journal in memory.
quiet() {
    units=$1/etc/systemd/system
    rm -rf "$units" "$1/var/log/journal"
    mkdir -p "$units" "$1/run/systemd/journald.conf.d"
    printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\nReadKMsg=no\n' >"$1/run/systemd/journald.conf.d/test.conf"
    printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >"$units/booted.target"
    ln -s booted.target "$units/default.target"
    for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
        systemd-hwdb-update.service systemd-journal-flush.service systemd-update-utmp.service systemd-binfmt.service \
        proc-sys-fs-binfmt_misc.automount systemd-networkd.service systemd-resolved.service systemd-timesyncd.service \
        systemd-logind.service systemd-random-seed.service systemd-machine-id-commit.service systemd-firstboot.service \
        systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-modules-load.service systemd-repart.service \
        dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
        sys-fs-fuse-connections.mount kmod-static-nodes.service modprobe@.service ldconfig.service apparmor.service \
        console-setup.service keyboard-setup.service; do
        ln -s /dev/null "$units/$unit"
    done
}

# Where systemd finds the controllers, by what is mounted there.
groups() {
    if [ -z "$BOOT_MEMORY" ]; then
        mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$1"
        return
    fi
    mount -t tmpfs -o mode=755 tmpfs "$1"
    mkdir "$1/unified" "$1/systemd" "$1/memory"
    mount -t cgroup2 cgroup2 "$1/unified"
    mount -t cgroup -o none,name=systemd cgroup "$1/systemd"
    mount -t cgroup -o memory cgroup "$1/memory"
}

root() {
    r=$BOOT/r
    mkdir "$r" "$BOOT/t"
    mount -t tmpfs -o mode=755 tmpfs "$BOOT/t"
    mkdir "$BOOT/t/upper" "$BOOT/t/work"
    mount -t overlay -o "lowerdir=/,upperdir=$BOOT/t/upper,workdir=$BOOT/t/work" overlay "$r"
    mount -t proc -o nosuid,nodev,noexec proc "$r/proc"
    mount --bind "$r/proc/sys" "$r/proc/sys"
    mount -o remount,bind,ro "$r/proc/sys"
    mount -t sysfs -o nosuid,nodev,noexec,ro sysfs "$r/sys"
    groups "$r/sys/fs/cgroup"
    mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$r/run"
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$r/tmp"
    devices "$r/dev"
    quiet "$r"
    old_ifs=$IFS
    IFS=:
    for dir in ${BOOT_BIND:-}; do
        mkdir -p "$r$dir"
        mount --bind "$dir" "$r$dir"
        mount -o remount,bind,ro "$r$dir"
    done
    IFS=$old_ifs
    cp "$BOOT_PREPARE" "$r/run/prepare"
    mount --make-rprivate "$r"
    hostname booted
    chroot "$r" bash /run/prepare
    mkdir "$r/run/old"
    cd "$r"
    pivot_root . run/old
    umount -l /run/old
    rmdir /run/old
    exec env -i container=hearth-test TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --log-target=journal --show-status=no
}

# ---- outside ----

outer='' init=''

# shellcheck disable=SC2317
cleanup() {
    trap '' INT TERM
    if [ -n "$outer" ]; then
        kill -KILL "$outer" 2>/dev/null || :
        wait "$outer" 2>/dev/null || :
    fi
    # The group is empty when the init of the namespace is gone; the kernel takes a moment to see it.
    # shellcheck disable=SC2016
    unshare --mount --propagation private -- sh -c '
        mkdir -p "$BOOT/g"
        for tree in "-t cgroup2" ${BOOT_MEMORY:+"-t cgroup -o memory" "-t cgroup -o none,name=systemd"}; do
            mount $tree none "$BOOT/g" 2>/dev/null || continue
            for i in 1 2 3 4 5 6 7 8 9 10; do
                group=$(find "$BOOT/g" -maxdepth 4 -type d -name "$BOOT_GROUP")
                [ -n "$group" ] || break
                find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
            done
            umount "$BOOT/g"
        done' || :
    rm -rf --one-file-system "$BOOT"
}

booted() {
    if [ -z "$init" ]; then
        init=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null) || :
        init=${init%% *}
        case $(readlink "/proc/$init/exe" 2>/dev/null) in */systemd) ;; *) init='' ;; esac
    fi
    [ -n "$init" ] && [ "$(nsenter -t "$init" -m -p -- systemctl is-active booted.target 2>/dev/null)" = active ]
}

outside() {
    BOOT_PREPARE=$1
    shift
    BOOT=$(mktemp -d "${TMPDIR:-/tmp}/hearth-boot.XXXXXX")
    BOOT_GROUP=hearth-boot.$$
    export BOOT BOOT_GROUP BOOT_PREPARE
    trap cleanup EXIT
    trap 'exit 143' INT TERM
    setpriv --pdeathsig KILL -- unshare --mount --ipc --uts --net --propagation private -- bash "$here" GROUP \
        </dev/null >"$BOOT/console" 2>&1 &
    outer=$!
    end=$((SECONDS + 60))
    until booted; do
        if ! kill -0 "$outer" 2>/dev/null || [ $SECONDS -gt $end ]; then
            echo "boot.sh: systemd did not start" >&2
            tail -n 40 "$BOOT/console" >&2
            [ -z "$init" ] || nsenter -t "$init" -a -- sh -c 'systemctl list-jobs; journalctl --no-pager | tail -n 40' >&2
            exit 125
        fi
        sleep 0.05
    done
    status=0
    # Out of the root of the control groups: systemd wants that for itself.
    # shellcheck disable=SC2016
    nsenter -t "$init" -m -u -i -n -p -C -- bash -c '
        if [ ! -d /sys/fs/cgroup/unified ]; then
            mkdir /sys/fs/cgroup/command
            echo 0 >/sys/fs/cgroup/command/cgroup.procs
        fi
        cd /; exec "$@"' bash "$@" &
    wait $! || status=$? # a signal for us is not kept waiting by it
    kill -s RTMIN+4 "$init" # poweroff.target
    end=$((SECONDS + 10))
    while kill -0 "$outer" 2>/dev/null && [ $SECONDS -lt $end ]; do
        sleep 0.05
    done
    exit "$status"
}

case ${1:-} in
CHECK) check ;;
RUN) shift; outside "$@" ;;
GROUP) group ;;
ROOT) root ;;
*) sed -n '3,6p' "$here" >&2; exit 2 ;;
esac
