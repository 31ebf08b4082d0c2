"""The files of an installation: covers, uploads, settings, and files that the application makes again."""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from pathlib import Path
from random import Random

from scriptorium.demo import words

CONFIG = '''"""Settings of the Bibliotheca demo, read once at start."""

import os
from pathlib import Path

BASE = Path(__file__).resolve().parent
DATA_DIR = os.environ.get("DATA_DIR", str(BASE / "data"))
KUZU_DB_PATH = os.environ.get("KUZU_DB_PATH", str(BASE / "data" / "kuzu"))
SECRET_KEY = os.environ["SECRET_KEY"]
SITE_NAME = os.environ.get("SITE_NAME", "Bibliotheca")
TIMEZONE = os.environ.get("TIMEZONE", "UTC")
WORKERS = 1  # Kuzu lets one process write
'''
COMPOSE = """services:
  bibliotheca:
    image: bibliotheca:demo
    env_file: .env
    ports: ["127.0.0.1:5054:5054"]
    volumes: ["./data:/app/data"]
    restart: unless-stopped
"""
REQUIREMENTS = "flask\ngunicorn\nkuzu==0.11.3\npandas\nrequests\n"


def picture(chance: Random, *, width: int = 120, height: int = 180) -> bytes:
    """A small cover as PNG: two colours that run into each other, with grain, as photographs have it."""
    above, below = ([chance.randrange(240) for _ in range(3)] for _ in range(2))
    lines = []
    for y in range(height):
        red, green, blue = (a + (b - a) * y // height for a, b in zip(above, below, strict=True))
        line = bytearray(bytes((red, green, blue)) * width)
        line[::3] = chance.randbytes(width).translate(bytes(red + (value & 15) for value in range(16)) * 16)
        lines.append(b"\0" + line)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(lines), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def cover_paths(count: int, seed: int) -> list[str]:
    """Where covers lie below ``data/covers``: most of them flat, some in folders of two letters."""
    chance = words.luck(f"covers {seed}")
    names = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(count)]
    return [f"{name[:2]}/{name}.png" if number % 5 == 4 else f"{name}.png" for number, name in enumerate(names)]


def write_covers(data: Path, paths: list[str], seed: int) -> None:
    chance = words.luck(f"pictures {seed}")
    for path in paths:
        _write(data / "covers" / path, picture(chance))


def write_configuration(home: Path, seed: int) -> None:
    """The program's files beside ``data``; ``.env`` is 0600, because it contains the key of every session."""
    key = f"{words.luck(f'key {seed}').getrandbits(256):064x}"
    _write(home / "config.py", CONFIG.encode())
    _write(home / "docker-compose.yml", COMPOSE.encode())
    _write(home / "requirements.txt", REQUIREMENTS.encode())
    lines = [f"SECRET_KEY={key}", f"SECURITY_PASSWORD_SALT={key[:32]}", "SITE_NAME='Bibliotheca – “demo”'", "WORKERS=1"]
    _write(home / ".env", ("\n".join(lines) + "\n").encode(), mode=0o600)


def write_user_files(data: Path, seed: int) -> None:
    """Uploads and the settings that the application keeps in ``data``."""
    chance = words.luck(f"files {seed}")
    _write(data / "uploads" / "import_2024.csv", _reading_list(chance).encode())
    _write(data / "uploads" / "Søren’s list (final).csv", _reading_list(chance).encode())
    _write(data / "uploads" / "scans" / "page 1.png", picture(chance, width=300, height=400))
    _write(data / "uploads" / "empty.txt", b"")
    (data / "uploads" / "to sort").mkdir()
    _write(data / "kuzu" / ".container_marker", b"demo\n")
    settings: dict[str, object] = {
        "ai_config.json": {"AI_PROVIDER": "none", "AI_TIMEOUT": 30},
        "backup_settings.json": {"enabled": False, "frequency": "daily", "retention_days": 14},
        "metadata_settings.json": {"books": {"title": {"mode": "both"}}, "people": {}},
        "opds_settings.json": {"base_url": "", "auto_sync_enabled": False},
        "system_config.json": {"site_name": "Bibliotheca – “demo”", "server_timezone": "UTC"},
        "user_settings/reader0.json": {"default_rows": 25, "theme": "dark"},
        "user_settings/reader1.json": {"default_rows": 50, "theme": "light"},
    }
    for name, content in settings.items():
        _write(data / name, json.dumps(content, indent=2, ensure_ascii=False).encode())


def write_volatile_files(data: Path, seed: int) -> None:
    """What a backup leaves out: sessions, locks, logs, and the application's own backups."""
    chance = words.luck(f"volatile {seed}")
    for _ in range(20):
        _write(data / "flask_sessions" / f"{chance.getrandbits(128):032x}", chance.randbytes(200))
    for _ in range(100):
        _write(data / "locks" / f"pm_{chance.getrandbits(64):016x}_{chance.getrandbits(64):016x}.lock", b"")
    _write(data / "logs" / "app.log", "".join(f"INFO {words.sentence(chance)}\n" for _ in range(500)).encode())
    _write(data / "backups" / "daily_1a2b3c4d.zip", b"PK\x05\x06" + bytes(18))
    _write(data / "backups" / "simple_backup_index.json", b"{}")
    _write(data / "schema_preflight.lock", b"")


def _reading_list(chance: Random) -> str:
    rows = [f'"{words.title(chance).replace(chr(34), chr(34) * 2)}","{words.person(chance)}"' for _ in range(200)]
    return "\r\n".join(["Title,Author", *rows]) + "\r\n"


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=mode)
    path.write_bytes(content)
