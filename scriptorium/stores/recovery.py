"""What a person needs to bring back a library from a store by hand: its address, where its secrets are (never the
secrets themselves), the programs, the commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scriptorium.stores.base import BackupStore
from scriptorium.stores.objects.encryption import Age
from scriptorium.stores.objects.local import LocalStore
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.stores.trees.borg import BorgStore
from scriptorium.stores.trees.password import PasswordSettings
from scriptorium.stores.trees.rclone import RcloneStore
from scriptorium.stores.trees.rclone.place import shown
from scriptorium.stores.trees.restic import ResticStore
from scriptorium.stores.trees.restic.program import without_secrets
from scriptorium.stores.trees.rsync import RsyncStore


@dataclass(frozen=True, slots=True)
class Secret:
    """``what`` is secret and ``where`` it is kept. ``id``: how it is recognised: the public part of a key."""

    what: str
    where: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Recovery:
    """``address``: for ``--store``, empty if the kind has none. ``commands``: for a shell, with ``$LIBRARY`` and
    ``$TARGET`` set."""

    address: str
    place: str
    secrets: tuple[Secret, ...]
    programs: tuple[str, ...]
    commands: tuple[str, ...]


def recovery_of(store: BackupStore) -> Recovery:
    """How a person recovers what is in the store."""
    described = _KINDS.get(store.kind)
    address, programs, commands = described(store) if described else ("", (), ())
    place = store.location("LIBRARY/BACKUP")
    return Recovery(address, place, tuple(_secrets(store)), programs, commands)


def _secrets(store: BackupStore) -> Iterator[Secret]:
    if isinstance(store, PasswordSettings):
        yield Secret("password of the repository", _where(store))
    age = getattr(store, "age", None)
    if isinstance(age, Age):
        for recipient in age.recipients:
            where = f"perhaps in {age.identity}" if age.identity else "not on this machine: fill in by hand"
            yield Secret("private key (age) of the archives", where, recipient)
    if isinstance(store, RcloneStore):
        yield Secret("configuration of rclone", str(store.config or "~/.config/rclone/rclone.conf"))
    if isinstance(store, S3Store):
        yield Secret("access key of the bucket", str(store.credentials_file or "~/.aws/credentials, or variables"))


def _where(store: PasswordSettings) -> str:
    if store.password_file is not None:
        return f"the file {store.password_file}"
    if store.password_command:
        return f"printed by: {store.password_command}"
    return f"the variable {store.password_env}" if store.password_env else "the settings file"


Described = tuple[str, tuple[str, ...], tuple[str, ...]]


def _archives(folder: str, age: Age | None) -> tuple[str, ...]:
    """Commands for the newest archive in a folder of archives."""
    newest = f'cd {folder}/"$LIBRARY" && archive=$(ls | grep "[.]tar" | grep -v "json$" | sort -t_ -k2 | tail -n 1)'
    unpack = 'mkdir -p "$TARGET" && tar -C "$TARGET" -xf "$archive"'
    if age is not None:
        key = shlex.quote(str(age.identity or "key.txt"))
        unpack = f'mkdir -p "$TARGET" && age -d -i {key} -o "$TARGET/archive" "$archive" && '
        unpack += 'tar -C "$TARGET" -xf "$TARGET/archive"'
    return (newest, unpack, 'cd "$TARGET" && sha256sum --quiet -c SHA256SUMS')


def _local(store: BackupStore) -> Described:
    assert isinstance(store, LocalStore)
    tools = ("tar", "gzip or zstd", "sha256sum", *(("age",) if store.age else ()))
    return str(store.path), tools, _archives(shlex.quote(str(store.path)), store.age)


def _s3(store: BackupStore) -> Described:
    assert isinstance(store, S3Store)
    query = f"?endpoint_url={store.endpoint_url}" if store.endpoint_url else ""
    query += f"{'&' if query else '?'}region={store.region}" if store.region else ""
    endpoint = f',endpoint="{store.endpoint_url}"' if store.endpoint_url else ""
    remote = f":s3,provider=Other,env_auth=true{endpoint}:{store.bucket}/{store.prefix}"
    fetch = f'rclone copy {shlex.quote(remote)}"$LIBRARY" "$TARGET.archives/$LIBRARY"'
    tools = ("rclone", "tar", "gzip or zstd", "sha256sum", *(("age",) if store.age else ()))
    return f"s3://{store.bucket}/{store.prefix}{query}", tools, (fetch, *_archives('"$TARGET.archives"', store.age))


def _restic(store: BackupStore) -> Described:
    assert isinstance(store, ResticStore)
    repository = without_secrets(store.repository)
    words = ["restic", "-r", repository]
    if store.password_file is not None:
        words += ["--password-file", str(store.password_file)]
    elif store.password_command:
        words += ["--password-command", store.password_command]
    restic = shlex.join(words)
    tag = '--tag "scriptorium,role=manifest,library=$LIBRARY"'
    return (
        f"restic:{repository}",
        ("restic", "sha256sum"),
        (
            f"{restic} snapshots {tag}",
            f'{restic} restore latest {tag} --target "$TARGET" && cd "$TARGET"',
            r"""id=$(sed -n 's/^  "id": "\(.*\)",$/\1/p' manifest.json)""",
            f'{restic} restore latest --tag "scriptorium,role=contents,id=$id" --target .',
            "sha256sum --quiet -c SHA256SUMS",
        ),
    )


def _rsync(store: BackupStore) -> Described:
    assert isinstance(store, RsyncStore)
    place = store.target or str(store.path)
    return f"rsync:{place}", ("rsync", "ssh"), (f'rsync -aHAX {shlex.quote(place)}/"$LIBRARY"/ "$TARGET"/',)


def _rclone(store: BackupStore) -> Described:
    assert isinstance(store, RcloneStore)
    remote = shlex.quote(shown(store.remote))
    rclone = shlex.join(["rclone", *(["--config", str(store.config)] if store.config else [])])
    newest = f"{rclone} lsf --recursive --max-depth 2 --include '*/manifest.json' {remote}/\"$LIBRARY\""
    return (
        f"rclone:{shown(store.remote)}",
        ("rclone", "sha256sum"),
        (
            f"backup=$({newest} | sort -t_ -k2 | tail -n 1 | cut -d/ -f1)",
            f'{rclone} copy {remote}/"$LIBRARY/$backup" "$TARGET"',
            'cd "$TARGET" && sha256sum --quiet -c SHA256SUMS',
        ),
    )


def _borg(store: BackupStore) -> Described:
    assert isinstance(store, BorgStore)
    command = store.password_command or (f"cat {shlex.quote(str(store.password_file))}" if store.password_file else "")
    passphrase = f" BORG_PASSCOMMAND={shlex.quote(command)}" if command else ""
    manifest = 'borg list --short --glob-archives "scriptorium:$LIBRARY:*:manifest:*" --last 1'
    contents = "$(echo \"$backup\" | sed 's/:manifest:/:contents:/; s/:[0-9]*$//')"
    return (
        f"borg:{without_secrets(store.repository)}",
        ("borg", "sha256sum"),
        (
            f"export BORG_REPO={shlex.quote(without_secrets(store.repository))}{passphrase}",
            f"backup=$({manifest})",
            f'contents=$(borg list --short --glob-archives "{contents}")',
            'mkdir -p "$TARGET" && cd "$TARGET"',
            'borg extract "::$backup" && borg extract --numeric-ids "::$contents"',
            "sha256sum --quiet -c SHA256SUMS",
        ),
    )


_KINDS: Mapping[str, Callable[[BackupStore], Described]] = {
    "local": _local,
    "s3": _s3,
    "restic": _restic,
    "rsync": _rsync,
    "rclone": _rclone,
    "borg": _borg,
}


def identity_files(store: BackupStore) -> tuple[Path, ...]:
    """The files of private keys (age) of a store that are on this machine."""
    age = getattr(store, "age", None)
    return (age.identity.expanduser(),) if isinstance(age, Age) and age.identity is not None else ()
