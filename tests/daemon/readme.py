#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The README's tour, run against a daemon started as `./dev up` starts it. A fenced block whose opening line is
"```sh tour" is one shell session; each command must succeed, and what a line "# -> TEXT" promises must be in the output
of the commands since the last such line's. TAP on standard output, one test per command."""
import os
import re
import subprocess
import sys

from rig import LIMIT, Daemon

SOURCE = os.environ["HEARTH_SOURCE"]


def steps():
    """The tour as a list of (command, [promised text])."""
    with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as f:
        blocks = re.findall(r"^```sh tour\n(.*?)^```", f.read(), re.S | re.M)
    found = []
    for line in "".join(blocks).split("\n"):
        if line.startswith("# -> "):
            found[-1][1].append(line[5:])
        elif line and not line.startswith("#"):
            found.append((line, []))
    return found


def script(work, tour):
    """One shell session in which each command's output goes to a file of its own, and its status to another."""
    lines = ["set -u -o pipefail"]
    for i, (command, _) in enumerate(tour):
        lines += ["{", command, "} >" + f"{work}/{i}.out 2>&1", f"echo $? >{work}/{i}.status"]
    return "\n".join(lines) + "\n"


def output(work, i, kind):
    try:
        with open(os.path.join(work, f"{i}.{kind}"), encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def report(work, tour):
    """Prints the TAP lines; the number of failures."""
    bad = 0
    print(f"1..{len(tour) + 1}")
    for i, (command, promised) in enumerate(tour):
        out, status = output(work, i, "out"), output(work, i, "status").strip()
        wrong = [f"status {status or 'none: not run'}"] if status != "0" else []
        wrong += [f"no {text!r} in the output" for text in promised if text not in out]
        if not out and "=$(" not in command:
            wrong.append("no output")
        print(f"{'not ok' if wrong else 'ok'} {i + 1} - {command.replace('#', '')}")
        for line in wrong + (out.split("\n")[:30] if wrong else []):
            print(f"# {line}")
        bad += bool(wrong)
    return bad


def main():
    tour = steps()
    with Daemon() as daemon:
        env = {**os.environ, "HEARTH_SOCKET": daemon.path}
        env["PATH"] = os.path.dirname(os.environ["HEARTH_CTL"]) + ":" + env["PATH"]
        env.pop("BASH_ENV", None)
        subprocess.run(["bash"], input=script(daemon.work, tour), text=True, env=env, cwd=daemon.work, timeout=LIMIT,
                       check=False)
        bad = report(daemon.work, tour)
        status = daemon.stop()
        print(f"{'ok' if status == 0 else 'not ok'} {len(tour) + 1} - the daemon ends by itself on SIGTERM")
        return bad or status


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
