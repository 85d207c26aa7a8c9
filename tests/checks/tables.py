#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is written down twice must say the same: the journal's kinds of event in the table, the manual and the code; the
commands and options of hearth in the command itself, its completion and its manual; the commands of the protocol in the
table and in PROTOCOL.md; figures and events in their tables, the manual and PROTOCOL.md."""
import os
import re
import subprocess

import tree


def words(text):
    return text.split()


def same(what, ours, theirs):
    for word in sorted(ours - theirs):
        yield f"{what}: {word} is missing"
    for word in sorted(theirs - ours):
        yield f"{what}: {word} does not exist"


def check_messages():
    table = dict(re.findall(r'^MESSAGE\((\w+), "(\w+)"', tree.read("daemon/messages.def"), re.M))
    manual = re.findall(r"^([0-9a-f]{32})  (\w+)$", tree.read("man/hearthd.8"), re.M)
    yield from same("man/hearthd.8", {f"{v} {k}" for k, v in table.items()}, {f"{i} {n}" for i, n in manual})
    code = "".join(tree.read(p) for p in tree.files(".c") if p.startswith("daemon/"))
    used = set(re.findall(r"\bMESSAGE_(\w+)", code)) & set(table)
    yield from same("daemon/*.c logs no event", set(table), used)


def ask(*args):
    return set(words(subprocess.run([os.environ["HEARTH_CTL"], "help", *args], check=True, text=True,
                                    capture_output=True).stdout))


def check_completion():
    text = tree.read("client/ctl/hearth.bash")
    manual = tree.read("man/hearth.1").replace("\\-", "-")
    offered = re.search(r"-W '(call [^']*)'", text)
    commands = ask("--names")
    yield from same("hearth.bash", commands, {w for w in words(offered.group(1)) if not w.startswith("-")})
    table = {}
    for names, options in re.findall(r"^    ([\w |]+)\) echo (--.*) ;;$", text, re.M):
        for name in words(names.replace("|", " ")):
            table[name] = set(words(options))
    for command in sorted(commands):
        options = ask("--options", command)
        yield from same(f"hearth.bash: {command}", options, table.get(command, set()))
        if command != "help" and f"hearth {command} " not in manual:
            yield f"man/hearth.1: {command} is missing"
        verbs = ask("--verbs", command)
        completed = re.search(rf"^    {command}\) echo ((?!--).*) ;;$", text, re.M)
        yield from same(f"hearth.bash: verbs of {command}", verbs, set(words(completed.group(1))) if completed else set())
        shown = re.search(rf'^\.BI "hearth {command} (.*?)^\.(?:TP\n\.BI "hearth|SH)', manual, re.M | re.S)
        for verb in sorted(verbs):
            if not re.search(rf"^\.B[IR]? {verb}\b", shown.group(1) if shown else "", re.M):
                yield f"man/hearth.1: {command} {verb} is missing"
    everything = set().union(*(ask("--options", c) for c in commands))
    spelt = set(re.findall(r"--[a-z]+", manual.split(".SH RUNNING TASKS")[1].split(".SH LOOKING")[0]))
    running = set().union(*(ask("--options", c) for c in ("call", "submit", "wait", "result", "log", "cancel", "map", "list", "set", "proc",
                                                            "keys")))
    yield from same("man/hearth.1", running, spelt & everything)


def check_protocol():
    page = tree.read("lib/wire/PROTOCOL.md")
    table = set(re.findall(r"^COMMAND\((?:\w+, )?\"([A-Z.]+)\"", tree.read("lib/wire/commands.def"), re.M))
    for name in sorted(table):
        if not re.search(rf"`{re.escape(name)}\b|^#+ {re.escape(name)}$|^    {re.escape(name)}\b", page, re.M):
            yield f"lib/wire/PROTOCOL.md: {name} is missing"
    if not table:
        yield "lib/wire/commands.def: no commands found"


def check_seeing():
    manual = tree.read("man/hearthd.8")
    shown = dict(re.findall(r"^(hearth_\w+)\n    (.*)$", manual.split(".SH FIGURES")[1].split(".SH ")[0], re.M))
    table = {}
    for scope, name, kind, text in re.findall(r'^METRIC\((\w+), (\w+), (\w+), .*, "([^"]*)"\)$', tree.read("daemon/metrics.def"),
                                              re.M):
        table["hearth_" + "pool_" * (scope == "POOL") + name + "_total" * (kind == "COUNTER")] = text
    yield from same("man/hearthd.8: figures", {f"{k}: {v}" for k, v in table.items()}, {f"{k}: {v}" for k, v in shown.items()})
    page = tree.read("lib/wire/PROTOCOL.md")
    kinds = dict(re.findall(r'^EVENT\((\w+), \w+, "([\w.]+)"', tree.read("daemon/events.def"), re.M))
    rows = set(re.findall(r"`((?:task|worker|pool|schedule|proc)\.[a-z]+)`", page.split("### Events")[1].split("#### EVENTS.READ")[0]))
    yield from same("lib/wire/PROTOCOL.md: events", set(kinds.values()), rows)
    code = "".join(tree.read(p) for p in tree.files(".c") if p.startswith("daemon/"))
    yield from same("daemon/*.c tells no event", set(kinds), set(re.findall(r"\bEVENT_(\w+)", code)) & set(kinds))


tree.finish("tables", [*check_seeing(), *check_messages(), *check_completion(), *check_protocol()])
