# SPDX-License-Identifier: MIT
"""The handler of tasks_program.c."""


def echo(payload, *_args):
    return payload
