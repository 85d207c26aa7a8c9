# SPDX-License-Identifier: MIT
"""What the extension's codec leaves to Python."""
import io
import pickle


def forking_dumps(value):
    """As multiprocessing sends things: connections and sockets too."""
    from multiprocessing.reduction import ForkingPickler  # pylint: disable=import-outside-toplevel
    return bytes(ForkingPickler.dumps(value, pickle.HIGHEST_PROTOCOL))


def dump_key(key):
    """A pickle in which nothing depends on which objects are the same one."""
    if isinstance(key, frozenset):
        key = _Set(sorted(key, key=dump_key))
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 4)
    pickler.fast = True
    pickler.dump(key)
    return file.getvalue()


class _Set:
    """A frozenset as a key: its elements in the order of their pickles."""

    def __init__(self, elements):
        self.elements = elements

    def __reduce__(self):
        return frozenset, (self.elements,)
