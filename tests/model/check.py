#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the models of this folder with spin: every interleaving and every death within their bounds.

A model must hold as it is, and the checker must find each fault that it knows how to seed (FAULT=1 ..): a model that
cannot fail proves nothing. HEARTH_MODEL=deep tries more deaths, which takes minutes and 6 GB. Without spin the test is skipped.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77

# model, faults it knows, bounds that are tried
MODELS = [
    ("handover", 5, [{"PROCS": 3, "DEATHS": 1}, {"PROCS": 2, "DEATHS": 2}], [{"PROCS": 3, "DEATHS": 2}]),
    ("wake", 5, [{"TO": 2, "DEATHS": 2}, {"TO": 0, "DEATHS": 2}], [{"TO": 2, "DEATHS": 3}]),
]


def search(model, defines, folder):
    """The number of errors and of states that the checker found; None: it did not finish."""
    names = [f"-D{name}={value}" for name, value in defines.items()]
    subprocess.run(["spin", *names, "-a", os.path.join(HERE, model + ".pml")], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    speed = "-O0" if defines["FAULT"] else "-O1"  # a fault is found before an optimiser is through
    subprocess.run(["gcc", speed, "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=6000", "-o", "pan", "pan.c"],
                   cwd=folder, check=True)
    out = subprocess.run(["./pan", "-m300000"], cwd=folder, check=True, capture_output=True, text=True).stdout
    errors = re.search(r"errors: (\d+)", out)
    states = re.search(r"(\d+) states, stored", out)
    cut = re.search(r"max search depth too small|reached -DMEMLIM|out of memory", out)
    if not errors or not states or cut:
        return None, out
    return int(errors.group(1)), states.group(1) + " states"


def main():
    if not shutil.which("spin"):
        print("SKIPPED: spin is not installed: NOTHING was checked of the hand-over and the sleep/wake protocol")
        return SKIPPED
    deep = os.environ.get("HEARTH_MODEL") == "deep"
    bad = 0
    with tempfile.TemporaryDirectory(prefix="hearth-model.") as folder:
        for model, faults, bounds, more in MODELS:
            cases = [(b, 0) for b in bounds + (more if deep else [])]
            cases += [(bounds[0], fault) for fault in range(1, faults + 1)]
            for bound, fault in cases:
                errors, said = search(model, {**bound, "FAULT": fault}, folder)
                ok = errors is not None and (errors > 0) == (fault > 0)
                bad += not ok
                print("ok" if ok else "NOT OK", model, bound, f"fault {fault}: " if fault else "", said, flush=True)
    return bad > 0


sys.exit(main())
