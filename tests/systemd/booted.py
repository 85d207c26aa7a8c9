#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run by systemd.py beside a systemd that has been booted for it: the scenes of scenes.py with the installed units, and what
only a real systemd can show. The argument is the directory of the configuration; with the word memory
behind it, only what has to do with that. HEARTH_SYSTEMD_KILLS (100) sets how often
hearthd is killed."""
import json
import os
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "daemon")]
# pylint: disable=wrong-import-position
import scenes
from load import BROKEN, CONF
from rig import LIMIT, Tap, Wire, until

KILLS = int(os.environ.get("HEARTH_SYSTEMD_KILLS", "100"))
CONF_DIR = sys.argv[1]
WORKER_DIED = "e64b67f93e44bf41ebd13d7f8300d8c7"
# Restarts are counted by nobody here and come quickly; patience is short, so that it can be seen to be extended.
DROP_IN = """[Unit]
StartLimitIntervalSec=0
[Service]
RestartSec=10ms
WatchdogSec=3s
TimeoutStopSec=1s
"""


def run(*command):
    return subprocess.run(command, check=False, text=True, capture_output=True, timeout=LIMIT)


def systemctl(*words):
    done = run("systemctl", *words)
    assert done.returncode == 0, f"systemctl {' '.join(words)}: {done.stdout}{done.stderr}\n{log()}"
    return done.stdout.strip()


def log(unit="hearthd*"):
    run("journalctl", "--sync")
    return run("journalctl", "-u", unit, "-n", "30", "--no-pager").stdout


class Unit:
    """hearthd.service, or an instance of hearthd@.service."""

    def __init__(self, instance=None):
        self.name = f"hearthd@{instance}" if instance else "hearthd"
        self.path = f"/run/hearth-{instance}/hearth.sock" if instance else "/run/hearth/hearth.sock"
        self.work = "/var/lib/hearth"
        self.conf = os.path.join(CONF_DIR, f"{instance or 'hearthd'}.conf")

    def configure(self, text):
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(text)

    def get(self, name):
        return systemctl("show", "-P", name, f"{self.name}.service")

    def main_pid(self):
        return int(self.get("MainPID"))

    def stored(self):
        return int(self.get("NFileDescriptorStore"))

    def kill(self, sig=signal.SIGKILL):
        pid = self.main_pid()
        if pid:
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass

    def wait_other(self, pid):
        """Asks the daemon itself: who connects waits until it serves, at no cost."""
        def other():
            try:
                info = Wire(self.path).ask("INFO", "server").decode()
            except BROKEN:
                return False
            return f"process_id:{pid}\r\n" not in info

        assert until(other), log()

    def restart(self):
        systemctl("restart", f"{self.name}.service")

    def stop(self):
        systemctl("stop", f"{self.name}.service")

    def start(self):
        """Nothing to do: the socket does it when somebody comes."""

    def reload(self):
        return run("systemctl", "reload", f"{self.name}.service").returncode == 0


def activation(unit):
    """The first client starts it, and waits."""
    systemctl("start", f"{unit.name}.socket")
    assert unit.get("ActiveState") == "inactive"
    assert Wire(unit.path).ask("PING") == "PONG"
    assert until(lambda: unit.get("ActiveState") == "active"), log()
    assert unit.stored() == 2, "the segment and the table of blocks are not in the store"


def reexec(unit):
    """systemd itself is replaced, as by an upgrade of it, then hearthd is killed: the store has been handed on."""
    wire = Wire(unit.path)
    wire.ask("HSET", "before", "a", "1")
    systemctl("daemon-reexec")
    pid = unit.main_pid()
    unit.kill()
    unit.wait_other(pid)
    assert Wire(unit.path).ask("HGET", "before", "a") == b"1"


def watchdog(unit):
    """As the scene says, and systemd says that it was the watchdog."""
    scenes.watchdog(unit)
    assert "Watchdog timeout" in run("journalctl", "-u", unit.name, "--no-pager").stdout


def refused_reload(unit):
    """Who asks for a bad configuration is told so by systemctl's status, and why by the log."""
    scenes.reloads(unit)
    run("journalctl", "--sync")
    said = run("journalctl", "-u", unit.name, "--no-pager").stdout
    assert "refused, the configuration stays as it is" in said and "found a string" in said, log()
    assert unit.get("ActiveState") == "active"


def journal(unit):
    """A worker's death is an entry with fields."""
    wire = Wire(unit.path)
    task = scenes.submit(wire, "demo", "crash", "", "ARG", 11, "RETRY", 0)
    assert scenes.ended(wire, task)[0] == "lost"

    def entry():
        run("journalctl", "--sync")
        out = run("journalctl", f"MESSAGE_ID={WORKER_DIED}", f"HEARTH_TASK={task}", "-o", "json", "--no-pager").stdout
        return json.loads(out.splitlines()[0]) if out else None

    assert until(lambda: entry() is not None, 10), log()
    fields = entry()
    assert fields["HEARTH_POOL"] == "demo" and int(fields["HEARTH_WORKER"]) > 0, fields
    assert fields["SYSLOG_IDENTIFIER"] == "hearthd" and fields["_SYSTEMD_UNIT"] == "hearthd.service", fields
    assert fields["CODE_FILE"].endswith(".c") and int(fields["PRIORITY"]) <= 4, fields


def handover(unit):
    """With KillMode=process, as hearthd(8) says, a restart leaves the worker at its task, and the next daemon has its end."""
    drop_in = f"/etc/systemd/system/{unit.name}.service.d/handover.conf"
    with open(drop_in, "w", encoding="utf-8") as f:
        f.write("[Service]\nKillMode=process\nEnvironment=TMPDIR=/run/hearth\n")
    systemctl("daemon-reload")
    unit.configure('restart = "handover";\n' + CONF)
    unit.restart()
    try:
        scenes.handover(unit)
    finally:
        os.unlink(drop_in)
        systemctl("daemon-reload")
        unit.configure(CONF)
        unit.restart()


def instances():
    """Two beside each other and beside the plain one: users, sockets and data of their own, and their own deaths."""
    units = [Unit("one"), Unit("two")]
    for n, unit in enumerate(units):
        unit.configure(CONF)
        systemctl("start", f"{unit.name}.socket")
        assert Wire(unit.path).ask("SET", "who", n) == "OK"
    owners = {os.stat(f"/proc/{u.main_pid()}").st_uid for u in units + [Unit()]}
    assert len(owners) == 3 and 0 not in owners, owners
    pids = [u.main_pid() for u in units]
    units[0].kill()
    units[0].wait_other(pids[0])
    assert units[1].main_pid() == pids[1]
    for n, unit in enumerate(units):
        assert Wire(unit.path).ask("GET", "who") == b"%d" % n
        unit.stop()
        systemctl("stop", f"{unit.name}.socket")
    assert Wire(Unit().path).ask("GET", "who") is None


def memory(tap, unit):
    """The kernel kills a worker for memory: its task is lost for that reason, the service goes on. Skipped where the kernel
    does not limit the memory of groups for us."""
    name = "a worker that the kernel kills for memory"
    run("systemctl", "set-property", "--runtime", f"{unit.name}.service", "MemoryMax=200M", "MemorySwapMax=0")
    Wire(unit.path).ask("PING")
    limits = [f"/sys/fs/cgroup{at}/system.slice/{unit.name}.service/{name}"
              for at, name in (("", "memory.max"), ("/memory", "memory.limit_in_bytes"))]
    if not any(os.path.exists(f) for f in limits):
        tap.skip(name, "there is no memory controller")
        return
    tap.run(name, killed_for_memory, unit)


def killed_for_memory(unit):
    wire = Wire(unit.path)
    wire.ask("SET", "k", "v")
    pid = unit.main_pid()
    task = scenes.submit(wire, "demo", "leak", "", "ARG", 1 << 30, "RETRY", 0)
    state, result = scenes.ended(wire, task)
    assert state == "lost", (state, result)
    cause = wire.ask("TASK.WAIT", task)
    assert any(b"memory" in part for part in cause if isinstance(part, bytes)), cause
    assert wire.ask("TASK.CALL", "demo", "echo", "on") == b"on"
    assert wire.ask("GET", "k") == b"v" and unit.main_pid() == pid and unit.get("ActiveState") == "active"


def main():
    tap = Tap()
    unit = Unit()
    for name in ("hearthd", "hearthd@"):
        os.makedirs(f"/etc/systemd/system/{name}.service.d")
        with open(f"/etc/systemd/system/{name}.service.d/test.conf", "w", encoding="utf-8") as f:
            f.write(DROP_IN)
    systemctl("daemon-reload")
    unit.configure(CONF)
    tap.run("the first client starts it", activation, unit)
    if sys.argv[2:] == ["memory"]:
        memory(tap, unit)
        tap.done()
    tap.run(f"killed {KILLS} times under load", scenes.killed_under_load, unit, KILLS, unit.work)
    tap.run("stopped, it is replaced", watchdog, unit)
    tap.run("a good and a bad configuration", refused_reload, unit)
    tap.run("restarted with tasks that run and wait", scenes.restarts, unit)
    tap.run("raw blocks are there after a death", scenes.blocks, unit)
    tap.run("durable tasks outlive a stop", scenes.durable_outlives_the_segment, unit)
    tap.run("the store outlives systemd itself", reexec, unit)
    tap.run("entries of the journal have fields", journal, unit)
    tap.run("a restart that hands its workers over", handover, unit)
    tap.run("instances beside each other", instances)
    tap.done()


if __name__ == "__main__":
    main()
