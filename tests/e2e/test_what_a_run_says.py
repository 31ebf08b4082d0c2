"""What a run reports on the command line: the log file, its progress, and never a password."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from prefect_server import clean, wait_for

from scriptorium.demo.alexandria import build_alexandria
from scriptorium.sources.postgres.embedded import EmbeddedPostgres

Scriptorium = Callable[..., Any]
SCRIPTORIUM = Path(sys.executable).with_name("scriptorium")
PASSWORD = "under the:stairs@9"


def test_a_log_file_has_what_was_decided_and_done_and_what_failed(scriptorium: Scriptorium, place: Any) -> None:
    made = scriptorium("create", "--log-file", "run.log", "--json")
    assert made.code == 0 and made.err == ""
    file = place.folder / "run.log"
    logged = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for wanted in (
        f"settings: {place.config}",
        f"Bibliotheca in {place.home}: its data is in ",
        f"backup {made.document['id']} of bibliotheca: type full, tier manual",
        "tables have fingerprints, 0 have none",
        "files, ",
        "packing full_",
        "verifying full_",
        "storing in local",
        f"backup {made.document['id']} is verified",
    ):
        assert wanted in logged, (wanted, logged)
    assert scriptorium("restore", "nothing", "--log-file", "run.log").code == 5
    assert "no such backup" in file.read_text().removeprefix(logged)


def test_another_process_can_read_the_progress_of_a_run(scriptorium: Scriptorium, place: Any, server: str) -> None:
    """While the run works, by its own id and by Prefect's; and after it was killed."""
    gate = place.folder / "gate"
    env = clean(
        PREFECT_HOME=str(place.folder / "prefect"),
        PREFECT_API_URL=server,
        SCRIPTORIUM_FAILPOINTS=json.dumps({"take.before-pack": f"wait:{gate}"}),
    )
    words = [SCRIPTORIUM, "create", "--quiet"]
    with subprocess.Popen(words, env=env, cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        try:
            wait_for(lambda: Path(f"{gate}.here").exists(), 120)
            (listed,) = scriptorium("list", "--json").document["backups"]
            assert listed["status"] == "running"
            shown = scriptorium("show", listed["id"], "--json").document["progress"]
            assert (shown["run"], shown["operation"], shown["state"]) == (listed["id"], "backup", "running")
            assert shown["step"] == "packing" and shown["bytes_expected"] > 0
            assert scriptorium("show", shown["flow_run"], "--json").document["progress"]["run"] == listed["id"]
            text = scriptorium("show", listed["id"])
            assert text.code == 0 and "packing full_" in text.out
        finally:
            run.kill()
    shown = scriptorium("show", listed["id"], "--json").document
    assert (shown["status"], shown["progress"]["state"]) == ("failed", "cut short")
    assert "cut short" in scriptorium("show", listed["id"]).out


def test_a_password_of_the_settings_appears_nowhere(scriptorium: Scriptorium, place: Any, server: str) -> None:
    """A backup, a dump, and a login that is refused: the password is not in the output, the log file, our files, or at
    Prefect."""
    forms = [PASSWORD, urllib.parse.quote(PASSWORD, safe=""), urllib.parse.quote(PASSWORD)]
    with EmbeddedPostgres() as postgres:
        with psycopg.connect(postgres.address(), autocommit=True) as session:
            session.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")
            session.execute("CREATE DATABASE alexandria OWNER keeper")
        address = f"postgresql://keeper:{forms[1]}@127.0.0.1:{postgres.port}/alexandria"
        build_alexandria(address, place.folder / "home", items=5, files=1)
        config = place.folder / "keeper.toml"
        config.write_text(
            f'workspace = "work"\n[libraries.alexandria]\npreset = "alexandria"\nhome = "home"\n'
            f'database = "{address}"\n[stores.local]\nkind = "local"\npath = "copies"\n'
        )
        config.chmod(0o600)
        common = ("--config", config, "-v", "--log-file", "run.log")
        answers = [scriptorium("create", *common), scriptorium("database", "backup", "one.sql", *common)]
        assert [one.code for one in answers] == [0, 0], answers
        with psycopg.connect(postgres.address(), autocommit=True) as session:
            session.execute("ALTER ROLE keeper PASSWORD 'another'")
        answers.append(scriptorium("create", *common))
        assert answers[-1].code != 0 and "password" in answers[-1].err
    texts = {f"output {number}": one.out + one.err for number, one in enumerate(answers)}
    files = [file for file in place.folder.rglob("*") if file.is_file() and file not in (config, place.folder / ".env")]
    assert {"run.log", "one.sql"} <= {file.name for file in files}
    texts |= {str(file): file.read_bytes().decode("latin-1") for file in files}
    for what in ("logs", "artifacts", "flow_runs", "task_runs"):
        texts[what] = newest(f"{server}/{what}/filter", what)
    assert "alexandria" in texts["logs"] and "alexandria" in texts["flow_runs"] and "alexandria" in texts["artifacts"]
    assert [where for where, text in texts.items() if any(form in text for form in forms)] == []


def newest(url: str, what: str) -> str:
    """The newest 200 entries that Prefect keeps, as it answers."""
    orders = {"logs": "TIMESTAMP_DESC", "artifacts": "CREATED_DESC", "flow_runs": "START_TIME_DESC"}
    body = json.dumps({"limit": 200, "sort": orders.get(what, "END_TIME_DESC")}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())
