"""Run one command and print what it cost, as JSON: wall and CPU seconds (its children's too), peak memory.

Run as a file by ``python -I -S``, which stays small: Linux counts the memory that a process had before ``exec`` to the
program it became, so a large parent would be measured instead of a small child. The minimum is the memory of this
program, about 10 MB. ``peak`` is of the largest process of a pipeline, not of all of them together.
"""

import json
import os
import sys
import time

began = time.monotonic()
child = os.fork()
if child == 0:
    try:
        os.dup2(2, 1)  # what the command prints is not ours
        os.execvp(sys.argv[1], sys.argv[1:])
    finally:
        os._exit(127)
_, status, usage = os.wait4(child, 0)
json.dump(
    {
        "status": os.waitstatus_to_exitcode(status),
        "wall": time.monotonic() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
    },
    sys.stdout,
)
