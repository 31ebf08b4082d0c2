#!/usr/bin/env bash
# Make the isolated environment: the locked dependencies, checked by their hashes, and this checkout.
# usage: install.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2
cd "$(dirname "$0")/.."

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or later is needed; '$python' is $("$python" --version 2>&1). Try: make PYTHON=/path/to/python3.11" >&2
    exit 6
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # Debian keeps it in a package of its own
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv"
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y python3-venv; } >/dev/null
    else
        echo "Python has no 'venv' here. On Debian: sudo apt-get install python3-venv" >&2
        exit 6
    fi
fi
[ -x "$venv/bin/python" ] || { echo "making $venv"; "$python" -m venv "$venv"; }
echo "installing the locked dependencies (the first time takes a minute or two)"
# the lock is complete: pip resolves nothing (its resolver misses the pin of a package that is wanted with an extra)
"$venv/bin/python" -m pip install --quiet --no-deps --require-hashes -r requirements.lock
"$venv/bin/python" -m pip check --quiet
"$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
# also where PYTHONDONTWRITEBYTECODE is set: without it every start compiles everything anew
"$venv/bin/python" -m compileall -q "$venv/lib" scriptorium flows tasks >/dev/null || true
