# SPDX-License-Identifier: MIT
"""Handlers for program.py. The library at its head is slow to import, which is the point."""
import io
import os
import subprocess
import sys
import threading
import time

import hearth_worker

with open(os.environ["PROGRAM_IMPORTS"], "a", encoding="ascii") as f:
    f.write(f"{os.getpid()}\n")


def echo(payload, *_args):
    return payload


def words(payload, *args):
    return {"text": payload.decode(), "args": list(args)}


def who(_payload):
    return str(os.getpid())


def fail(_payload):
    raise FileNotFoundError(2, "it is not here", "spoon")


def die(_payload, status="3"):
    os._exit(int(status))


def rest(_payload, ms):
    time.sleep(int(ms) / 1000)
    return "rested"


def stubborn(_payload):
    """Does not hear that it is to stop, nor does what it has started."""
    subprocess.Popen(["sleep", "600"])
    while True:
        try:
            time.sleep(600)
        except hearth_worker.Cancelled:
            continue


def polite(_payload):
    """Has a result even when it is told to stop."""
    try:
        time.sleep(600)
    except hearth_worker.Cancelled:
        return "told: %s" % hearth_worker.stopping()


def burn(_payload, ms):
    end = time.process_time() + int(ms) / 1000
    while time.process_time() < end:
        pass


def twice(_payload):
    """Fails the first time."""
    if hearth_worker.current().attempt == 1:
        os.kill(os.getpid(), 9)
    return "attempt %d" % hearth_worker.current().attempt


def tell(_payload):
    """Everything a handler may tell while it runs, and then fails."""
    hearth_worker.emit(b"a\0b")
    print("printed")
    hearth_worker.progress(1, 2, "half")
    print("to stderr", file=sys.stderr, flush=True)
    print("and no end of line", end="")
    return "told"


def flood(_payload, size):
    """So many bytes, in order."""
    for i in range(0, int(size), 8192):
        hearth_worker.emit(b"%07d " % i * 1024)


KEPT = []


def leak(_payload):
    KEPT.append(os.urandom(1 << 20) * 16)
    return str(os.getpid())


def thumb(payload, side):
    """A thumbnail of an image, and the mean of its colours."""
    import numpy
    from PIL import Image
    image = Image.open(io.BytesIO(payload)).convert("RGB")
    image.thumbnail((int(side), int(side)))
    out = io.BytesIO()
    image.save(out, "PNG")
    mean = numpy.asarray(image).reshape(-1, 3).mean(axis=0)
    return b"%d,%d,%d %d %d\n" % (*mean, *image.size) + out.getvalue()


threading.main_thread()  # the module may use threads; it has none when it is forked from
