#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The installed tree as a stranger uses it, staged in a directory: the README's program in C built by pkg-config against
the shared and the static library, a program of the tutorial, the example that opens hearth_handler.h built as it says and run by a daemon, and the
paths that hearthd finds its worker and its modules by. TAP, one test per step."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

from rig import LIMIT, Daemon, Tap, Wire

SOURCE = os.environ["HEARTH_SOURCE"]
CC = ["cc", "-std=gnu11", "-Wall", "-Werror"]


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as f:
        return f.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def run(*args, **more):
    done = subprocess.run(args, check=False, text=True, capture_output=True, timeout=LIMIT, **more)
    assert done.returncode == 0, f"{' '.join(args)}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def sanitizers():
    """Who links a library that is built with sanitizers needs them too."""
    with open(os.path.join(os.environ["HEARTH_BUILD"], "meson-info", "intro-buildoptions.json"), encoding="utf-8") as f:
        value = next(o["value"] for o in json.load(f) if o["name"] == "b_sanitize")
    return [] if value == "none" else [f"-fsanitize={value}"]


def stage(work):
    run("meson", "install", "-C", os.environ["HEARTH_BUILD"], "--no-rebuild", "--quiet",
        env={**os.environ, "DESTDIR": work})


def find(work, name):
    for where, _, names in os.walk(work):
        if name in names:
            return os.path.join(where, name)
    raise FileNotFoundError(f"{name} was not installed")


def flags(work, *options):
    pc = os.path.dirname(find(work, "hearth.pc"))
    env = {**os.environ, "PKG_CONFIG_PATH": pc, "PKG_CONFIG_SYSROOT_DIR": work}
    return run("pkg-config", *options, "hearth", env=env).split()


def client(work, path, static):
    lib = os.path.dirname(find(work, "libhearth.a"))
    link = flags(work, "--cflags") + [os.path.join(lib, "libhearth.a")] if static else flags(work, "--cflags", "--libs")
    write(f"{work}/prog.c", re.search(r"^```c\n(.*?)^```", read("README.md"), re.S | re.M).group(1))
    run(*CC, f"{work}/prog.c", "-o", f"{work}/prog", *link, *sanitizers())
    said = run(f"{work}/prog", env={**os.environ, "HEARTH_SOCKET": path, "LD_LIBRARY_PATH": lib})
    assert said == "first: 2\nbe 1\nto 1\n\n", said


def tutorial(work):
    """The command of its README, where it is installed."""
    where = os.path.dirname(find(work, "threads.c"))
    command = next(line for line in read("client/examples/multiprocessing/README.md").split("\n") if line.startswith("    cc "))
    words = command.replace("$(pkg-config --cflags --libs hearth)", " ".join(flags(work, "--cflags", "--libs"))).split()
    run(*CC, *words[1:], *sanitizers(), cwd=where)


def handler(work):
    """The example of the header, compiled by the command it names."""
    text = read("worker/hearth_handler.h")
    lines = [line[3:] for line in text[:text.index("LIFE.")].split("\n") if line.startswith(" *     ")]
    code = [line for line in lines if not line.strip().startswith(("cc ", "# and"))]
    command = next(line for line in lines if line.strip().startswith("cc ")).split()
    write(f"{work}/greeter.c", "\n".join(code) + "\n")
    run(*command, "-I", os.path.dirname(find(work, "hearth_handler.h")), cwd=work)
    with Daemon(f'pools = ( {{ name = "greeter"; module = "{work}/greeter.so"; workers = 1; }} );\n') as daemon:
        assert Wire(daemon.path).ask("TASK.CALL", "greeter", "hello", "you") == b"hello, you"


def python_module(work, path):
    """The module lies where Debian's interpreter looks, below the prefix."""
    where = os.path.dirname(os.path.dirname(find(work, "lifetime.py")))
    assert os.path.basename(where) == "dist-packages", where
    code = "import hearth; from hearth import multiprocessing as m; print(hearth.connect().call('text', 'words', b'to be', 0), m.Lock().acquire())"
    said = run("/usr/bin/python3", "-B", "-c", code, env={**os.environ, "HEARTH_SOCKET": path, "PYTHONPATH": where})
    assert said == "b'2\\n' True\n", said


def build_paths():
    """hearthd names the places where meson installs: without the variables of a build tree it says where it looked."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
    work = tempfile.mkdtemp(prefix="hearth-paths-", dir="/tmp")
    try:
        write(f"{work}/c", 'pools = ( { name = "x"; module = "nonesuch.so"; } );\n')
        said = subprocess.run([os.environ["HEARTHD"], "--check", "-c", f"{work}/c"], env=bare, text=True,
                              capture_output=True, timeout=LIMIT, check=False)
        stage(work)
        module = find(work, "demo.so")[len(work):]
        assert said.returncode == 1 and os.path.dirname(module) in said.stderr, said.stderr
    finally:
        shutil.rmtree(work)


def main():
    tap = Tap()
    work = tempfile.mkdtemp(prefix="hearth-stage-", dir="/tmp")
    try:
        tap.run("the tree is installed in a staging directory", stage, work)
        with Daemon() as daemon:
            tap.run("the README's program with the shared library", client, work, daemon.path, False)
            tap.run("the README's program with the static library", client, work, daemon.path, True)
            if glob.glob(os.path.join(os.environ["HEARTH_BUILD"], "client", "python", "_hearth.*.so")):
                tap.run("the Python module", python_module, work, daemon.path)
        tap.run("a program of the tutorial", tutorial, work)
        tap.run("the example of hearth_handler.h", handler, work)
        tap.run("modules are looked for where they are installed", build_paths)
    finally:
        shutil.rmtree(work)
    tap.done()


if __name__ == "__main__":
    main()
