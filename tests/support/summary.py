#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the tests of the last `meson test`: prints "N passed, N failed, N skipped" and exits 1 unless some passed and
none failed. A test that speaks TAP counts by its sub-tests, any other as one; one that failed without a failed sub-test
(it crashed, or took too long) counts as one failure more."""
import glob
import json
import os
import sys
import xml.etree.ElementTree as tree

BAD = {"FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS"}


def subtests(path):
    """Sub-tests by test name: (passed, failed, skipped)."""
    found = {}
    if not os.path.exists(path):
        return found
    for suite in tree.parse(path).getroot().iter("testsuite"):
        cases = suite.findall("testcase")
        bad = sum(c.find("failure") is not None or c.find("error") is not None for c in cases)
        skipped = sum(c.find("skipped") is not None for c in cases)
        # A TAP test is a suite of its own, named "PROJECT." and the name that testlog.json has.
        found[suite.get("name").split(".", 1)[-1]] = (len(cases) - bad - skipped, bad, skipped)
    return found


def main():
    # With a wrapper (valgrind) the files are named after it: the newest is the one of this run.
    logs = glob.glob(os.path.join(sys.argv[1], "testlog*.json"))
    if not logs:
        print("0 passed, 0 failed, 0 skipped")
        return 1
    log = max(logs, key=os.path.getmtime)
    passed = failed = skipped = 0
    found = subtests(log.replace(".json", ".junit.xml"))
    with open(log, encoding="utf-8") as f:
        tests = [json.loads(line) for line in f]
    for test in tests:
        good, bad, skip = found.get(test["name"], (0, 0, 0))
        is_bad = test["result"] in BAD
        if good + bad + skip == 0:
            bad, skip = int(is_bad), int(test["result"] == "SKIP")
            good = 1 - bad - skip
        elif is_bad and bad == 0:
            bad = 1
        passed, failed, skipped = passed + good, failed + bad, skipped + skip
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
