"""A laboratory for Kuzu: a writer in a process of its own with an invariant, and a checker for copies.

Imported by the tests (most have it as the fixture ``lab``), and run as a program for its children::

    python -P kuzu_writer.py write '<json>'      transfers between accounts until it is ended
    python -P kuzu_writer.py check '<json>'      what a copy holds, as JSON
    python -P kuzu_writer.py run   '<json>'      some statements, then a clean close

The invariant: a transaction moves money between two accounts, adds a transfer edge and sets the counter. After the
commit the counter is written to the acknowledgement file. In every honest copy the sum of the balances is what it
was at the start, the counter is the number of edges and at least what was acknowledged before the copy began.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

ACCOUNTS = 60
OPENING = 1_000
BULK = 400  # rows of one COPY
_SCHEMA = """
CREATE NODE TABLE Account(id STRING, balance INT64, note STRING, PRIMARY KEY(id));
CREATE NODE TABLE Counter(id INT64, n INT64, PRIMARY KEY(id));
CREATE NODE TABLE Ballast(id INT64, text STRING, PRIMARY KEY(id));
CREATE REL TABLE TRANSFER(FROM Account TO Account, n INT64, amount INT64, memo STRING);
"""


def _kuzu(engine: str | None):
    if engine:
        sys.path.insert(0, engine)
    import kuzu

    return kuzu


def _rows(connection, question: str, parameters: dict | None = None) -> list:
    answer, rows = connection.execute(question, parameters or {}), []
    while answer.has_next():
        rows.append(answer.get_next())
    return rows


def _write(wish: dict) -> None:
    kuzu = _kuzu(wish.get("engine"))
    dice = random.Random(wish.get("seed", 1))
    database = kuzu.Database(wish["database"], buffer_pool_size=1 << 30)
    connection = kuzu.Connection(database)
    folder = Path(wish["ack"]).parent
    next_ballast = 0

    def bulk(rows: int) -> None:
        nonlocal next_ballast
        table = folder / "ballast.csv"
        with table.open("w") as file:
            for number in range(next_ballast, next_ballast + rows):
                file.write(f"{number},{dice.randbytes(300).hex()}\n")
        connection.execute(f"COPY Ballast FROM '{table}'")
        next_ballast += rows

    if not _rows(connection, "CALL SHOW_TABLES() RETURN name"):
        for statement in _SCHEMA.strip().split("\n"):
            connection.execute(statement)
        for number in range(ACCOUNTS):
            connection.execute(f"CREATE (:Account {{id: 'a{number}', balance: {OPENING}, note: ''}})")
        connection.execute("CREATE (:Counter {id: 0, n: 0})")
        bulk(wish.get("ballast", 20_000))
        connection.execute("CHECKPOINT")
    counter = _rows(connection, "MATCH (c:Counter) RETURN c.n")[0][0]
    ack = os.open(wish["ack"], os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(ack, f"{counter:012d}".encode(), 0)
    Path(wish["ack"] + ".ready").touch()
    every, bulk_every = wish.get("checkpoint_every", 25), wish.get("bulk_every", 150)
    while counter < wish.get("transfers", 10**9):
        counter += 1
        _transfer(connection, dice, counter, wish.get("note", 20))
        os.pwrite(ack, f"{counter:012d}".encode(), 0)
        if every and counter % every == 0:
            connection.execute("CHECKPOINT")
        if bulk_every and counter % bulk_every == 0:
            bulk(BULK)
        if counter % wish.get("restart_every", 600) == 0:  # kuzu does not give memory back; applications restart too
            connection.close()
            database.close()
            database = kuzu.Database(wish["database"], buffer_pool_size=1 << 30)
            connection = kuzu.Connection(database)
        if wish.get("pause"):
            time.sleep(wish["pause"])
    Path(wish["ack"] + ".finished").touch()
    if wish.get("hold"):
        time.sleep(3_600)


def _transfer(connection, dice: random.Random, number: int, longest: int) -> None:
    one, two = dice.sample(range(ACCOUNTS), 2)
    amount = dice.randrange(1, 100)
    memo = dice.randbytes(dice.choice((8, 40, 100))).hex()  # kuzu 0.11 runs out of memory with long ones
    connection.execute("BEGIN TRANSACTION")
    for account, change in ((one, -amount), (two, amount)):
        connection.execute(
            "MATCH (a:Account) WHERE a.id = $id SET a.balance = a.balance + $d, a.note = $memo",
            {"id": f"a{account}", "d": change, "memo": memo * dice.randrange(longest + 1)},
        )
    connection.execute(
        "MATCH (a:Account), (b:Account) WHERE a.id = $x AND b.id = $y "
        "CREATE (a)-[:TRANSFER {n: $n, amount: $d, memo: $memo}]->(b)",
        {"x": f"a{one}", "y": f"a{two}", "n": number, "d": amount, "memo": memo},
    )
    connection.execute("MATCH (c:Counter) WHERE c.id = 0 SET c.n = $n", {"n": number})
    connection.execute("COMMIT")


def _check(wish: dict) -> dict:
    kuzu = _kuzu(wish.get("engine"))
    database = kuzu.Database(wish["database"], buffer_pool_size=256 << 20)
    connection = kuzu.Connection(database)
    found = {
        "sum": int(_rows(connection, "MATCH (a:Account) RETURN sum(a.balance)")[0][0]),
        "accounts": _rows(connection, "MATCH (a:Account) RETURN count(*)")[0][0],
        "counter": _rows(connection, "MATCH (c:Counter) RETURN c.n")[0][0],
        "edges": _rows(connection, "MATCH (:Account)-[t:TRANSFER]->(:Account) RETURN count(*), max(t.n)")[0],
        "ballast": _rows(connection, "MATCH (b:Ballast) RETURN count(*)")[0][0],
    }
    found["by_index"] = sum(
        _rows(connection, "MATCH (a:Account) WHERE a.id = $id RETURN count(*)", {"id": f"a{number}"})[0][0]
        for number in range(ACCOUNTS)
    )
    found["text"] = _rows(connection, "MATCH (b:Ballast) WHERE size(b.text) <> 600 RETURN count(*)")[0][0]
    return found


def _run(wish: dict) -> None:
    kuzu = _kuzu(wish["engine"])
    database = kuzu.Database(wish["database"], buffer_pool_size=256 << 20)
    connection = kuzu.Connection(database)
    for statement in wish["statements"]:
        connection.execute(statement)
    connection.close()
    database.close()


@dataclass
class Writer:
    """The writing application, as a process."""

    folder: Path
    wish: dict = field(default_factory=dict)
    name: str = "app.db"

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.database = self.folder / self.name
        self._ack = self.folder.parent / f"{self.folder.name}.ack"

    def __enter__(self) -> Writer:
        self.start()
        return self

    def start(self) -> None:
        for ending in (".ready", ".finished"):
            Path(f"{self._ack}{ending}").unlink(missing_ok=True)
        wish = {"database": str(self.database), "ack": str(self._ack), **self.wish}
        self.process = subprocess.Popen([sys.executable, "-P", __file__, "write", json.dumps(wish)])
        self.wait_for(".ready")

    def wait_for(self, ending: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not Path(f"{self._ack}{ending}").exists():
            assert self.process.poll() is None, "the writer died"
            assert time.monotonic() < until, "the writer takes too long"
            time.sleep(0.01)

    @property
    def acknowledged(self) -> int:
        return int(self._ack.read_text())

    def wait_beyond(self, counter: int) -> None:
        until = time.monotonic() + 60
        while self.acknowledged <= counter:
            assert time.monotonic() < until and self.process.poll() is None
            time.sleep(0.002)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()


def start(folder: Path, **wish: object) -> Writer:
    return Writer(folder, wish)


def old_engine(cache: Path) -> str:
    """A folder with kuzu 0.10.0, the last version of the folder layout. Raises ``OSError`` if it cannot be
    installed."""
    target = cache / "kuzu-0.10.0"
    if not (target / "kuzu" / "__init__.py").exists():
        cache.mkdir(exist_ok=True)
        beside = cache / f"kuzu-0.10.0.{os.getpid()}"
        argv = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(beside), "kuzu==0.10.0"]
        outcome = subprocess.run(argv, capture_output=True, timeout=240, check=False)
        if outcome.returncode:
            message = outcome.stderr.decode(errors="replace").strip().splitlines()
            raise OSError(message[-1] if message else "pip failed")
        if not target.exists():
            beside.rename(target)
    return str(target)


def script(engine: str | None, database: Path, *statements: str) -> None:
    """Run statements on a database in a child, and close it cleanly."""
    wish = {"engine": engine, "database": str(database), "statements": statements}
    subprocess.run([sys.executable, "-P", __file__, "run", json.dumps(wish)], check=True, timeout=120)


def complaint(database: Path, acknowledged: int = 0, engine: str | None = None) -> str:
    """What is wrong with a copy; ``""`` if it is honest. The copy is opened in a child."""
    wish = {"database": str(database), "engine": engine}
    argv = [sys.executable, "-P", __file__, "check", json.dumps(wish)]
    outcome = subprocess.run(argv, capture_output=True, timeout=120, check=False)
    if outcome.returncode:
        last = outcome.stderr.decode(errors="replace").strip().splitlines()
        return f"status {outcome.returncode}: {last[-1] if last else ''}"
    found = json.loads(outcome.stdout)
    wrong = []
    if found["sum"] != ACCOUNTS * OPENING:
        wrong.append("a transfer is there in part")
    if found["edges"][0] != found["counter"] or (found["edges"][1] or 0) != found["counter"]:
        wrong.append("the counter is not the number of edges")
    if found["counter"] < acknowledged:
        wrong.append("acknowledged transfers are missing")
    if found["accounts"] != ACCOUNTS or found["by_index"] != ACCOUNTS:
        wrong.append("accounts are missing, or their index is broken")
    if found["ballast"] % BULK or found["text"]:
        wrong.append("a bulk load is there in part")
    return f"{'; '.join(wrong)}: {found}" if wrong else ""


def naive_zip(database: Path, target: Path) -> Path:
    """As an application's own backup: zip the files one after another, and unzip them elsewhere."""
    target.mkdir()
    archive = target / "naive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted(database.parent.rglob("*")):
            try:
                if path.is_file():
                    zipped.write(path, path.relative_to(database.parent))
            except FileNotFoundError:  # .shadow and .wal come and go
                continue
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(target)
    archive.unlink()
    return target / database.name


if __name__ == "__main__":
    if sys.argv[1] == "write":
        _write(json.loads(sys.argv[2]))
    elif sys.argv[1] == "run":
        _run(json.loads(sys.argv[2]))
    else:
        print(json.dumps(_check(json.loads(sys.argv[2]))))
