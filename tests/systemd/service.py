#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hearthd under a stand-in for the service manager (standin.py): the scenes of scenes.py, and what only a stand-in can bring
about. HEARTH_SERVICE_KILLS (50) sets how often it is killed, HEARTH_SERVICE_HANDOVERS (20) how often it is restarted in the midst of tasks."""
import os
import signal
import struct
import subprocess
import sys
import tempfile

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon")]
# pylint: disable=wrong-import-position
import scenes
from load import CONF
from rig import LIMIT, Daemon, Tap, Wire, until
from standin import StandIn

KILLS = int(os.environ.get("HEARTH_SERVICE_KILLS", "50"))
HANDOVERS = int(os.environ.get("HEARTH_SERVICE_HANDOVERS", "20"))
SEGMENT = "hearth-segment"


def segments(service):
    return [fd for name, fd in service.store if name == SEGMENT]


def stored_once():
    with StandIn(CONF) as service:
        wire = Wire(service.path)
        wire.ask("SET", "k", "v")
        for _ in range(3):
            pid = service.main_pid()
            service.kill()
            service.wait_other(pid)
        assert sorted(name for name, _ in service.store) == ["hearth-blocks", SEGMENT], service.store
        assert Wire(service.path).ask("GET", "k") == b"v"


def other_version():
    """A segment of another version is left in the store as it is, beside the new one, and each daemon takes its own."""
    with StandIn(CONF) as service:
        Wire(service.path).ask("SET", "k", "old")
        pid = service.main_pid()
        theirs = segments(service)[0]
        magic = os.pread(theirs, 8, 0)
        service.wanted = False
        service.kill()
        assert until(lambda: not service.pid)
        os.pwrite(theirs, struct.pack("=I", 9999), 8)
        service.start()
        service.wait_other(pid)
        assert "another version of Hearth" in service.log()
        wire = Wire(service.path)
        assert wire.ask("GET", "k") is None
        wire.ask("SET", "k", "new")
        for _ in range(2):
            pid = service.main_pid()
            service.kill()
            service.wait_other(pid)
            assert Wire(service.path).ask("GET", "k") == b"new"
        assert len(segments(service)) == 2, service.store
        assert os.pread(theirs, 12, 0) == magic + struct.pack("=I", 9999), "it was written to"


def gives_up_on_a_daemon_that_hangs():
    """The time it asks for while it stops is no licence to hang."""
    with StandIn(CONF, stop_timeout=1.0) as service:
        wire = Wire(service.path)
        task = scenes.submit(wire, "once", "run", "", "ARG", "sleep", "ARG", "60")
        scenes.wait_for(wire, task, "running")
        service.wanted = False
        service.kill(signal.SIGSTOP)
        service.stop()
        assert service.timeouts == 1 and service.status == -signal.SIGKILL, service.status


def restart_within_patience():
    with StandIn(CONF, stop_timeout=1.0) as service:
        scenes.restarts(service)
        assert service.timeouts == 0 and service.status == 0, (service.timeouts, service.status)
        assert any("EXTEND_TIMEOUT_USEC" in fields for _, _, fields in service.heard)


def at_once_on_a_stale_socket():
    """Several daemons find the socket that a killed one has left: one serves, the others say so and end."""
    with Daemon(CONF) as daemon:
        daemon.process.kill()
        daemon.process.wait()
        with tempfile.TemporaryFile() as log:
            command = [os.environ["HEARTHD"], "-c", daemon.conf, "-s", daemon.path]
            all_of_them = [subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": daemon.work}) for _ in range(6)]
            try:
                assert until(lambda: sum(p.poll() is None for p in all_of_them) == 1), "several go on, or none"
                alive = next(p for p in all_of_them if p.poll() is None)
                assert {p.returncode for p in all_of_them if p is not alive} == {1}
                assert until(lambda: os.path.exists(daemon.path))
                assert Wire(daemon.path).ask("PING") == "PONG"
                alive.terminate()
                assert alive.wait(LIMIT) == 0
                log.seek(0)
                assert log.read().count(b"a daemon is already listening on") == 5
            finally:
                for p in all_of_them:
                    if p.poll() is None:
                        p.kill()
                        p.wait()
        left = set(os.listdir(daemon.work)) - {"hearthd.conf", "log", "notify"}
        assert not left, left


def main():
    tap = Tap()
    with StandIn(CONF) as service:
        tap.run(f"killed {KILLS} times under load", scenes.killed_under_load, service, KILLS, service.work)
        tap.run("a good and a bad configuration", scenes.reloads, service)
        tap.run("raw blocks are there after a death", scenes.blocks, service)
        tap.run("durable tasks outlive the store", scenes.durable_outlives_the_segment, service)
    with StandIn(CONF, watchdog=1.0) as service:
        tap.run("stopped, it is replaced", scenes.watchdog, service)
    tap.run("restarted with tasks that run and wait", restart_within_patience)
    with StandIn('restart = "handover";\n' + CONF) as service:
        tap.run("a restart that hands its workers over", scenes.handover, service)
        tap.run("restarted so again and again, under load", scenes.handed_over_under_load, service, HANDOVERS)
    tap.run("time is asked for by a loop that turns", gives_up_on_a_daemon_that_hangs)
    tap.run("the segment is in the store once", stored_once)
    tap.run("a segment of another version stays in the store", other_version)
    tap.run("six daemons at once on a stale socket", at_once_on_a_stale_socket)
    tap.done()


if __name__ == "__main__":
    main()
