"""The two libraries of the demo, and what is done with each."""

from __future__ import annotations

from contextlib import ExitStack

from scriptorium import wording
from scriptorium.cli.demo_stage import Stage, Start, back_up, compare, restore, verify


def bibliotheca(stage: Stage, living: ExitStack, books: int) -> Start:
    """A Kuzu library. It is restored from the raw copy and from its Parquet export."""
    from scriptorium.demo.bibliotheca import build_bibliotheca
    from scriptorium.demo.writer import writing

    home = stage.folder / "bibliotheca"
    with stage.step(f"bibliotheca: building a library of {books:,} books in {home}") as step:
        built = build_bibliotheca(home, books=books)
        step.result = (
            f"{built.books:,} books, {built.people:,} persons, {built.readers} users, {built.reading_logs:,} reading "
            f"logs, {built.relationships:,} relationships ({wording.size(built.bytes)}), {built.covers} covers"
        )
    writer = living.enter_context(writing(home, log=stage.folder / "bibliotheca-writer.log"))

    def story() -> None:
        backup = back_up(stage, "bibliotheca", writer.acknowledged)
        verify(stage, backup)
        raw, rebuilt = stage.folder / "restored", stage.folder / "restored-from-export"
        restored = [
            restore(stage, backup, f"to {raw.name}/, the database from the raw copy", path=str(raw)),
            restore(stage, backup, f"to {rebuilt.name}/, the database from Parquet", path=str(rebuilt), rebuild=True),
        ]
        compare(stage, backup, raw, restored)

    return Start('[libraries.bibliotheca]\npreset = "bibliotheca"\nhome = "bibliotheca"\n\n', {}, story)


def alexandria(stage: Stage, living: ExitStack, items: int) -> Start:
    """A PostgreSQL library on the demo's own server. It is restored into a second database and to a folder."""
    import psycopg

    from scriptorium.demo.alexandria import build_alexandria
    from scriptorium.demo.alexandria_writer import writing
    from scriptorium.sources import scratch_server

    home = stage.folder / "alexandria"
    with stage.step(f"alexandria: a PostgreSQL server, and a library of {items:,} items in {home}") as step:
        server = living.enter_context(scratch_server())
        with psycopg.connect(server.address(), autocommit=True) as session:
            session.execute("CREATE DATABASE alexandria")
        built = build_alexandria(server.address("alexandria"), home, items=items, files=min(500, items))
        step.result = f"PostgreSQL {server.major}: {built}"
    writer = living.enter_context(writing(server.address("alexandria"), stage.folder / "alexandria-writer.log"))

    def story() -> None:
        backup = back_up(stage, "alexandria", writer.acknowledged)
        verify(stage, backup)
        folder = stage.folder / "restored-alexandria"
        second = restore(stage, backup, "into a second database, alexandria_second", database="alexandria_second")
        restore(stage, backup, f"to {folder.name}/", path=str(folder))
        compare(stage, backup, folder, [second])

    settings = (
        '[libraries.alexandria]\npreset = "alexandria"\nfiles = "alexandria/library"\n'
        f'database = "postgresql://{server.user}@127.0.0.1:{server.port}/alexandria"\n'
        'postgres = { password_env = "SCRIPTORIUM_DEMO_PASSWORD" }\n\n'
    )
    return Start(settings, {"SCRIPTORIUM_DEMO_PASSWORD": server.password}, story)
