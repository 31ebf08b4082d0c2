#!/usr/bin/env bash
# Prints where the temporary folders of `make test` are: in memory if there is enough of it, because thousands of small
# files are written, synced and removed. Otherwise prints nothing, and pytest uses the system's temporary folder.
# `make test-all` and `make faults` always use that one.
set -euo pipefail
[ -d /dev/shm ] && [ -w /dev/shm ] || exit 0
free=$(df --output=avail -B1G /dev/shm | tail -n 1)
memory=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
[ "$free" -ge 4 ] && [ "$memory" -ge 6 ] && echo /dev/shm || true
