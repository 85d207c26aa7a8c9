#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hearthd as a service of a real systemd, booted for this (boot.sh), with the units as they are installed: runs booted.py
there. Where no systemd can be booted it is skipped, loudly; HEARTH_TEST_SYSTEMD=1 makes that a failure. service.py shows the
same scenes by other means, everywhere. With the argument memory: only what has to do with that, booted with that controller."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "daemon"))
from rig import Tap  # pylint: disable=wrong-import-position

BOOT = os.path.join(HERE, "boot.sh")
BUILD = os.environ["HEARTH_BUILD"]
LIMIT = 220
PREPARE = """set -e
cp -a "{stage}/." /
ldconfig
systemd-sysusers
systemd-tmpfiles --create hearth.conf
"""


def option(name):
    with open(os.path.join(BUILD, "meson-info", "intro-buildoptions.json"), encoding="utf-8") as f:
        return next(o["value"] for o in json.load(f) if o["name"] == name)


def cannot():
    """Why not; "" if it can."""
    if option("b_sanitize") != "none":
        return "a sanitizer does not go with the units' confinement"
    if option("prefix") not in ("/usr", "/usr/local"):
        return "with this prefix the units are where systemd does not look"
    check = subprocess.run([BOOT, "CHECK"], stdout=subprocess.PIPE, text=True, check=False, timeout=LIMIT)
    return "" if check.returncode == 0 else check.stdout.strip() or "it cannot be booted here"


def give_up(tap, why):
    if os.environ.get("HEARTH_TEST_SYSTEMD") == "1":
        tap.ok(False, "a systemd is booted", why)
        tap.done()
    print(f"systemd.py: NO REAL SYSTEMD WAS TESTED: {why}", file=sys.stderr)
    tap.skip_all(why)


def main():
    tap = Tap()
    why = cannot()
    if why:
        give_up(tap, why)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stage = tempfile.mkdtemp(prefix="hearth-systemd-", dir="/tmp")
    os.chmod(stage, 0o755)  # the mode of the root directory, once it is copied there
    try:
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], check=True, timeout=LIMIT,
                       stdout=subprocess.DEVNULL, env={**os.environ, "DESTDIR": stage})
        with open(os.path.join(stage, "prepare"), "w", encoding="utf-8") as f:
            f.write(PREPARE.format(stage=stage))
        conf = os.path.join(option("prefix"), option("sysconfdir"), "hearth") if option("prefix") != "/usr" else "/etc/hearth"
        env = {**os.environ, "BOOT_BIND": f"{stage}:{os.environ['HEARTH_SOURCE']}",
               "BOOT_MEMORY": "1" if "memory" in sys.argv else ""}
        command = ["setpriv", "--pdeathsig", "TERM", "--", BOOT, "RUN", os.path.join(stage, "prepare"),
                   sys.executable, "-B", os.path.join(HERE, "booted.py"), conf]
        command += sys.argv[1:]
        with subprocess.Popen(command, env=env) as boot:
            try:
                status = boot.wait(LIMIT)
            except BaseException:
                boot.terminate()  # it cleans up
                raise
        if status == 125:
            give_up(tap, "systemd did not boot")
        sys.exit(status)
    finally:
        shutil.rmtree(stage)


if __name__ == "__main__":
    main()
