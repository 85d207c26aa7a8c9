#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Stock Redis clients of other languages against the daemon, unchanged: PHP, Ruby, Perl, Lua and Go. Each has a script in
stock/ that goes through strings, hashes, lists, blocking pops, MULTI, pipelines, pub/sub and a task, and prints a line for
each check. They are many packages, so it runs only when asked to: HEARTH_TEST_CLIENTS=1 ./dev test stock installs them."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import LIMIT, Daemon, Tap  # pylint: disable=wrong-import-position

CONF = """
pools = (
  { name = "demo"; workers = 1; module = "demo.so"; },
  { name = "use"; workers = 1; module = "%s/tests/daemon/mod_use.so"; }
);
segment_size = "64M";
"""
CHECKS = 17  # the least that a whole script prints

# The interpreter with the words before the script, a program that says whether the library is there, Debian's package.
CLIENTS = {
    "php": (["php"], ["php", "-r", "exit(extension_loaded('redis') ? 0 : 1);"], "php-redis"),
    "rb": (["ruby"], ["ruby", "-e", "require 'redis'"], "ruby-redis"),
    "pl": (["perl"], ["perl", "-MRedis", "-e", "1"], "libredis-perl"),
    "lua": (["lua5.1"], ["lua5.1", "-e", "require 'redis' require 'socket.unix'"], "lua-redis"),
    "go": (["go", "run"], ["test", "-d", "/usr/share/gocode/src/github.com/gomodule/redigo"],
           "golang-github-gomodule-redigo-dev"),
}


def environment(work):
    """Go builds what Debian has installed, without its network of modules."""
    return {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": os.path.join(work, "go"),
            "GOFLAGS": "", "LC_ALL": "C.UTF-8"}


def run(tap, daemon, kind):
    command, probe, package = CLIENTS[kind]
    if not shutil.which(command[0]) or subprocess.run(probe, check=False, capture_output=True, timeout=LIMIT).returncode:
        tap.skip(kind, f"not installed (Debian: {package})")
        return
    script = os.path.join(os.environ["HEARTH_SOURCE"], "tests", "daemon", "stock", f"stock.{kind}")
    done = subprocess.run([*command, script, daemon.path], check=False, text=True, encoding="utf-8", errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=2 * LIMIT, env=environment(daemon.work))
    lines = [line for line in done.stdout.split("\n") if line.startswith(("ok ", "not ok "))]
    for line in lines:
        good, _, name = line.partition("ok ")
        tap.ok(not good, f"{kind}: {name.partition(':')[0]}", name)
    tap.ok(done.returncode == 0 and len(lines) >= CHECKS, f"{kind}: goes on to its end", done.returncode, done.stderr, done.stdout)


def main():
    tap = Tap()
    if os.environ.get("HEARTH_TEST_CLIENTS") != "1":
        tap.skip_all("it needs many packages: HEARTH_TEST_CLIENTS=1 ./dev test stock installs them")
    with Daemon(CONF % os.environ["HEARTH_BUILD"]) as daemon:
        for kind in CLIENTS:
            run(tap, daemon, kind)
    tap.done()


if __name__ == "__main__":
    main()
