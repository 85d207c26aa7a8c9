#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples of client/python/README.md, and those of the README that use the module: each block of Python is a program, run with a private daemon; what a line "# -> TEXT"
promises must be in what the block prints. TAP, one test per block."""
import os
import re
import subprocess
import sys

from rig import LIMIT, Daemon, Tap

READMES = ("client/python/README.md", "README.md")


def run(path, work, text):
    env = {**os.environ, "HEARTH_SOCKET": path}
    done = subprocess.run([sys.executable, "-c", text], env=env, cwd=work, timeout=LIMIT, check=False, text=True,
                          capture_output=True)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"
    for promise in re.findall(r"# -> (.*)$", text, re.M):
        assert promise in done.stdout, f"no {promise!r} in\n{done.stdout}{done.stderr}"


def main():
    tap = Tap()
    blocks = []
    for name in READMES:
        with open(os.path.join(os.environ["HEARTH_SOURCE"], name), encoding="utf-8") as f:
            blocks += [b for b in re.findall(r"^```python\n(.*?)^```", f.read(), re.S | re.M) if "hearth" in b]
    with Daemon() as daemon:
        for text in blocks:
            tap.run(text.split("\n", 1)[0], run, daemon.path, daemon.work, text)
    tap.done()


main()
