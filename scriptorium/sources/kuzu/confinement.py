"""A child that opens a database must not load code from it.

An application may load an extension into Kuzu, and the WAL records it: ``LOAD EXTENSION`` and the path of a library,
which the engine loads again when it opens the database. So the author of a WAL (the owner of a library that root backs
up, the author of an archive) could run any code as our user. Therefore the kernel is asked to refuse this process every
new executable page and every other program: then no library can be loaded. ``confine`` is called after everything that
the child needs is loaded, and cannot be undone. This module imports nothing of the package.
"""

from __future__ import annotations

import ctypes
import importlib
import platform
import struct

_NEEDED = ("datetime", "decimal", "json", "numpy", "pyarrow", "pyarrow.compute", "uuid")  # by the engine and by us
_EXECUTABLE = 0x4  # PROT_EXEC
_NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER_MODE = 38, 22, 2  # prctl(2)
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
_NUMBER, _ARCHITECTURE, _THIRD_ARGUMENT = 0, 4, 32  # offsets in struct seccomp_data
# For each architecture: its number, the calls that make a page executable, the calls that run a program.
_CALLS = {
    "x86_64": (0xC000003E, (9, 10, 329), (59, 322)),
    "aarch64": (0xC00000B7, (222, 226, 288), (221, 281)),
}


def confine() -> bool:
    """Install the filter; returns whether the kernel accepted it. On other kernels or architectures nothing changes."""
    for name in _NEEDED:
        importlib.import_module(name)
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return False
    code = _program(*calls)
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held)))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    return bool(libc.prctl(_SET_FILTER, _FILTER_MODE, program, 0, 0) == 0)


def _program(architecture: int, executable: tuple[int, ...], running: tuple[int, ...]) -> bytes:
    """Refuse calls that run a program or make pages executable; allow all others."""
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in running:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number in executable:
        lines += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _THIRD_ARGUMENT),
            (_ANY_BIT, 0, 1, _EXECUTABLE),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)
