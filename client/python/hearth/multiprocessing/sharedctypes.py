# SPDX-License-Identifier: MIT
"""Value and Array. Without a name they are the standard library's ctypes objects, in memory that children inherit, under a lock of
ours; with one, typed arrays of the daemon's (hearth.Array), which any program can read and change."""
import ctypes
from multiprocessing import sharedctypes as _stdlib
from multiprocessing.sharedctypes import copy, synchronized  # noqa: F401  pylint: disable=unused-import

from hearth import sync
from hearth.multiprocessing import context

_CODES = {ctypes.c_char: "c", ctypes.c_byte: "b", ctypes.c_ubyte: "B", ctypes.c_short: "h", ctypes.c_ushort: "H", ctypes.c_int: "i",
          ctypes.c_uint: "I", ctypes.c_long: "q", ctypes.c_ulong: "Q", ctypes.c_longlong: "q", ctypes.c_ulonglong: "Q",
          ctypes.c_float: "f", ctypes.c_double: "d"}


def _code(of):
    code = _CODES.get(of, of)
    if not isinstance(code, str):
        raise TypeError("a named value or array is of a number or c_char")
    return code


def RawValue(typecode_or_type, *args, name=None):  # pylint: disable=invalid-name
    """A ctypes object in shared memory; with a name a hearth.Array of one."""
    return _stdlib.RawValue(typecode_or_type, *args) if name is None else _named(name, typecode_or_type, args or (), 1)


def RawArray(typecode_or_type, size_or_initializer, *, name=None):  # pylint: disable=invalid-name
    """A ctypes array in shared memory; with a name a hearth.Array."""
    if name is None:
        return _stdlib.RawArray(typecode_or_type, size_or_initializer)
    if isinstance(size_or_initializer, int):
        return _named(name, typecode_or_type, (), size_or_initializer)
    return _named(name, typecode_or_type, size_or_initializer, len(size_or_initializer))


def _named(name, of, first, n):
    made = sync.Array(name, _code(of), n)
    if first and made.made:
        made[:] = first
    return made


def Value(typecode_or_type, *args, lock=True, ctx=None, name=None):  # pylint: disable=invalid-name
    """multiprocessing.Value."""
    if name is None:
        return _stdlib.Value(typecode_or_type, *args, lock=lock, ctx=ctx or context.default.get_context())
    return RawValue(typecode_or_type, *args, name=name)


def Array(typecode_or_type, size_or_initializer, *, lock=True, ctx=None, name=None):  # pylint: disable=invalid-name
    """multiprocessing.Array."""
    if name is None:
        return _stdlib.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=ctx or context.default.get_context())
    return RawArray(typecode_or_type, size_or_initializer, name=name)
