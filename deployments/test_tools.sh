#!/usr/bin/env bash
# Programs that some tests and the benchmark need. Missing ones are installed where that is possible. Otherwise they are
# named, and the tests that need them are skipped with that reason.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
declare -A package=([zstd]=zstd [pigz]=pigz [pgbouncer]=pgbouncer [setfattr]=attr [setfacl]=acl [zip]=zip
    [restic]=restic [age]=age [borg]=borgbackup [rsync]=rsync [ssh]=openssh-client [sshd]=openssh-server)
missing=()
for tool in "${!package[@]}"; do
    command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed: ${missing[*]} (some tests will be skipped); sudo apt-get install ${missing[*]}"
    exit 0
fi
# The tests start what they need themselves: installing must start no service of the system.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
install() { DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >/dev/null; }
echo "installing ${missing[*]}"
apt-get update -q >/dev/null || true
install "${missing[@]}" || for one in "${missing[@]}"; do # if one is not available, install the others
    install "$one" || echo "could not be installed: $one (some tests will be skipped)"
done
