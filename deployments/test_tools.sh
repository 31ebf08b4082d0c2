#!/usr/bin/env bash
# What some tests and the benchmark run beside us. Missing ones are installed where that is possible, else said:
# the tests that need them are then skipped with that reason.
set -euo pipefail
declare -A package=([zstd]=zstd [pigz]=pigz)
missing=()
for tool in "${!package[@]}"; do
    command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y "${missing[@]}"; } >/dev/null \
        || echo "could not be installed: ${missing[*]} (some tests will be skipped)"
else
    echo "not installed: ${missing[*]} (some tests will be skipped); sudo apt-get install ${missing[*]}"
fi
