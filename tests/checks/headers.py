#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every header compiles alone and twice; the two public ones as strict C99 and, where a C++ compiler is, as C++11."""
import multiprocessing.pool
import os
import shutil
import subprocess

import tree

PUBLIC = ("client/hearth.h", "worker/hearth_handler.h")
PYTHON = "/usr/include/python3.11"
WARN = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", tree.ROOT]
CC = os.environ.get("CC", "cc").split()


def compile_alone(command, path):
    source = f'#include "{path}"\n#include "{path}"\n'
    done = subprocess.run([*command, *WARN, "-"], input=source, text=True, capture_output=True, check=False)
    return None if done.returncode == 0 else f"{path}: {' '.join(command)}:\n{done.stderr}"


def jobs():
    cxx = shutil.which("g++") or shutil.which("clang++")
    python = os.path.exists(os.path.join(PYTHON, "Python.h"))
    for path in tree.files(".h"):
        if path.startswith("client/python/"):
            if python:
                yield [*CC, "-std=gnu11", "-D_GNU_SOURCE", "-isystem", PYTHON, "-x", "c"], path
            continue
        yield [*CC, "-std=gnu11", "-D_GNU_SOURCE", "-x", "c"], path
        if path in PUBLIC:
            yield [*CC, "-std=c99", "-pedantic", "-Wstrict-prototypes", "-x", "c"], path
            if cxx:
                yield [cxx, "-std=c++11", "-pedantic", "-x", "c++"], path


with multiprocessing.pool.ThreadPool() as pool:
    results = pool.starmap(compile_alone, list(jobs()))
tree.finish("headers", [r for r in results if r])
