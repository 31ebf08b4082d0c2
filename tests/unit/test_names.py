"""Names are data: whatever they contain, a terminal, a log or a report only shows them."""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from scriptorium import wording
from scriptorium.catalog import Problem
from scriptorium.cli import output
from scriptorium.cli.output import Manner
from scriptorium.errors import DamageFound, NotFound, StoreUnavailable
from scriptorium.rescue import __main__ as rescue

HOSTILE = (
    "a\x1b[2J\x1b]8;;http://evil.example\x07b",
    "two\nerror: forged\r\n  hint",
    "\u202egnp.exe\u2066\u200b\u00ad\ufeff",
    "\x9b31mC1\x85\x7f",
    "raw \udcff\udc80 bytes \ud800",
    "[red]markup[/red] [link=http://evil.example]x[/link]",
    "![x](http://evil.example/p.png) [l](javascript:1) <img src=x> <!-- &lt; https://evil.example www.evil.example",
    "a|b||c `code` **bold** __under__ ~~gone~~ \\| me@evil.example",
    "line\u2028para\u2029\U000e0041\u3164\ufe0f\u034f",
    "\t",
)
NAMES = st.text(st.characters(), max_size=40) | st.sampled_from(HOSTILE)
COMMANDED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def harmless(line: str) -> bool:
    return not any(unicodedata.category(letter) in COMMANDED for letter in line)


def with_hostile(test: Any) -> Any:
    for name in HOSTILE:
        test = example(name)(test)
    return settings(deadline=None)(given(NAMES)(test))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain äé 本 📚 \u00a0", "plain äé 本 📚 \u00a0"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b", "\\u009b"),
        ("\u202e", "\\u202e"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_is_seen_stays_and_the_rest_is_written_out(name: str, shown: str) -> None:
    assert wording.legible(name) == shown


@with_hostile
def test_a_name_is_one_harmless_line(name: str) -> None:
    shown = wording.legible(name)
    assert harmless(shown), repr(shown)
    shown.encode("utf-8")
    assert wording.legible(shown) == shown  # what is rendered twice is rendered once


@with_hostile
def test_markdown_shows_a_name_and_nothing_else(name: str) -> None:
    from scriptorium.report.report import Fields, Report, Table, markdown

    fields, rows = Fields({f"f{name}.": f"v{name}."}), Table([{"one": f"c{name}.", "two": "last"}])
    page = markdown(Report("backup", "lib", f"Of {name}.", blocks=(fields, rows)))
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    texts, kinds = [], set()
    for token in parser.parse(page):
        for child in token.children or ():
            kinds.add(child.type)
        if token.type == "inline":
            texts.append("".join(child.content for child in token.children or ()))
    shown = wording.legible(name)
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}, kinds
    squeezed = [" ".join(text.split()) for text in texts]
    expected = [f"Of {shown}.", f"f{shown}.: v{shown}.", "one", "two", f"c{shown}.", "last"]
    assert squeezed == [" ".join(text.split()) for text in expected]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://evil.example", "https\\://evil.example"),
        ("HTTP://evil", "HTTP\\://evil"),
        ("WWW.evil.example", "WWW\\.evil.example"),
        ("a@b.example", "a\\@b.example"),
    ],
)
def test_bare_addresses_are_no_links(address: str, shown: str) -> None:
    """GitHub's Markdown makes links of them."""
    assert wording.markdown(address) == shown


SPOKEN: list[Callable[[str], object]] = [
    output.say,
    output.warn,
    lambda name: output.complain(name, name, None),
    lambda name: output.complain(name, name, ValueError("told by --verbose")),
    lambda name: output.put_pairs({"name": name}),
    lambda name: output.table([{"ID": name, "Verdict": (name, name)}]),
    lambda name: output.table([{"ID": name, "Verdict": (name, name)}] * 101),
    lambda name: rescue._complain(name, name),
    lambda name: rescue._say(name),
]


@pytest.mark.parametrize("number", range(len(SPOKEN)))
def test_every_front_door_of_the_console(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "manner", Manner())
    for name in HOSTILE:
        out = io.StringIO()
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", out)
        SPOKEN[number](name)
        message = out.getvalue()
        assert all(map(harmless, message.split("\n"))), repr(message)
        assert sum(line.lstrip().startswith("error: ") for line in message.split("\n")) <= 1


def test_the_question_shows_the_name_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = io.StringIO()
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    monkeypatch.setattr("sys.stderr", out)
    output.confirm("Delete a\x1b[2K\nb?", yes=False)
    assert out.getvalue() == "Delete a\\x1b[2K\\nb? Type 'yes' to continue: "


def test_a_traceback_is_harmless_too(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(output, "manner", Manner(verbose=True))
    monkeypatch.setattr("sys.stderr", out)
    try:
        raise NotFound("no such thing", on="a\n\x1b[31mb")
    except NotFound as error:
        output.complain(error.exact, error.hint, error)
    assert all(map(harmless, out.getvalue().split("\n")))


def test_json_keeps_a_name_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "manner", Manner(json=True))
    for name in HOSTILE:
        out = io.StringIO()
        output.manner.wrote_json = False
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", io.StringIO())
        error = NotFound("no such file", on=name, hint=name)
        with pytest.raises(output.typer.Exit):
            output.with_errors(lambda error=error: (_ for _ in ()).throw(error))
        assert json.loads(out.getvalue()) == {"error": f"no such file: {name}", "hint": name}
        assert harmless(out.getvalue().replace("\n", ""))


def test_an_error_is_legible_in_states_and_logs_of_runs() -> None:
    error = DamageFound("differs", on="a\nb\udcff")
    assert str(error) == "differs: a\\nb\\xff"
    assert error.exact == "differs: a\nb\udcff"


def test_what_runs_log_is_legible() -> None:
    import flows.runs  # noqa: F401  makes it so

    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logger = logging.getLogger("prefect.flow_runs.test_names")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        try:
            raise ValueError("in\x1b[31m\u202e")
        except ValueError:
            logger.warning("name %s", "a\n\x1bb\udcff", exc_info=True)
    finally:
        logger.removeHandler(handler)
    first, *rest = out.getvalue().rstrip("\n").split("\n")
    assert first == "name a\\n\\x1bb\\xff"
    assert rest and all(map(harmless, rest))


def test_the_texts_of_a_store_are_exact_in_json_and_harmless_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors of a list of backups are kept as they were raised; only what people read is rendered."""
    error = StoreUnavailable("the store does not answer", on="/srv/a\n\x1b[31m")
    out = io.StringIO()
    monkeypatch.setattr(output, "manner", Manner())
    monkeypatch.setattr("sys.stdout", out)
    output.say(f"warning: {Problem('local', error.exact).error}")
    assert out.getvalue() == "warning: the store does not answer: /srv/a\\n\\x1b[31m\n"
