#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ioredis and node-redis, the newest of each, against the daemon: node_clients.js. It fetches both with npm into a temporary
directory, so it runs only when asked to: HEARTH_TEST_NODE=1."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Daemon, Tap  # pylint: disable=wrong-import-position

PACKAGES = ["ioredis", "redis"]
FETCH = 120  # seconds
RUN = 150


def main():
    tap = Tap()
    if os.environ.get("HEARTH_TEST_NODE") != "1":
        tap.skip_all("it fetches packages with npm: set HEARTH_TEST_NODE=1")
    if not shutil.which("npm"):
        tap.skip_all("no npm (Debian: npm)")
    work = tempfile.mkdtemp(prefix="hearth-node-", dir="/tmp")
    try:
        with open(os.path.join(work, "package.json"), "w", encoding="ascii") as f:
            f.write('{"private": true}')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", *PACKAGES],
                       cwd=work, check=True, timeout=FETCH, stdout=sys.stderr)
        shutil.copy(os.path.join(os.environ["HEARTH_SOURCE"], "tests", "daemon", "node_clients.js"), work)
        with Daemon() as daemon:
            return subprocess.run(["node", os.path.join(work, "node_clients.js"), daemon.path],
                                  check=False, timeout=RUN).returncode
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
