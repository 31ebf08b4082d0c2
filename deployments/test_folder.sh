#!/usr/bin/env bash
# Where the temporary folders of `make test` are: in memory where there is enough of it, since thousands of small files
# are written, synced and removed; else nothing is said, and pytest takes the system's temporary folder. `make test-all`
# and `make faults` always run on that one.
set -euo pipefail
[ -d /dev/shm ] && [ -w /dev/shm ] || exit 0
free=$(df --output=avail -B1G /dev/shm | tail -n 1)
memory=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
[ "$free" -ge 4 ] && [ "$memory" -ge 6 ] && echo /dev/shm || true
