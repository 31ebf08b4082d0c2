"""Invented titles, names and notes. None of them is a real book or person; all of them are text that goes wrong in
careless hands: quotes, commas, line ends, backslashes, many scripts, the empty string."""

from __future__ import annotations

import unicodedata
from random import Random


def _list(text: str, between: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(between))


FIRST = _list(
    "Alva Bram Céleste Dorota Emre Fiadh Gunnar Håkon Ingrid João Katarína Łucja Małgorzata Noémie Oisín Petra Quirin "
    "Renée Søren Tomáš Ulla Vítor Wiebke Xenia Yusuf Zoë Åsa Øystein Þóra Ñusta Anneliese Bartholomew Calliope"
)
LAST = _list(
    "Abelwright Børresen Castellanza Dvořánek Eisenhauch Færland Grünspan Hollowmere İnceoğlu Jökulsson Kvistgaard "
    "Lindqvister Mørkholm Novákonis Ödegård O'Fennelly Przybylec Quillfeather Rasmustad Šimůnková Thistlewane Ungerhof "
    "Völkersen Wexcombe Xanthopoulidis Ystgaard Żelazko d'Aubremont von-Tannegg"
)
ELSEWHERE = _list(
    "青葉 みずき|白石 遼|حبيب الزهراوي|ליאור בן־עמי|Мирослава Северцева|Ηλέκτρα Καλαμπάκη|김 하늘솔|ปัญญา ศรีทอง|"
    "अनन्या कुलश्रेष्ठ|林 溪橋",
    "|",
)
NOUNS = _list(
    "Lantern Orchard Harbour Ledger Glacier Marginalia Compass Cartographer Apiary Weathervane Archive Tide Lighthouse "
    "Vellum Sparrow Observatory Cellar Meridian Threshold Almanac Bellfounder Quarry Estuary Parchment Night-Ferry "
    "Clockmaker Winter Salt-Road Understorey Palimpsest Librarian Thimble Causeway Hinterland Hourglass"
)
ADJECTIVES = _list(
    "Quiet Unfinished Borrowed Crooked Northern Luminous Second-Hand Patient Forgotten Paper Copper Invisible Slow "
    "Unreliable Folded Salted Wandering Annotated Reluctant Improbable Hollow Last"
)
ODD_TITLES = (
    'The "Quoted" Lantern',
    "It's Nobody's Harbour, Is It?",
    "Ledger; or, The Comma, the Colon: & Other Marks",
    "C:\\Temp\\New – A Memoir",
    "100% <Cotton> & {Linen} [Annotated]",
    "Ночной паром",
    "静かな灯台",
    "منارة من ورق",
    "מצפה הכוכבים",
    "Ångström's Æther: Œuvres complètes №1",
    "📚 The Emoji Librarian 👩🏽‍🚀",
    "e\u0301te\u0301 (decomposed)",
    "NULL",
    "'; DROP TABLE Book; --",
    "  Spaces at Both Ends  ",
    "Tab\tStop",
)
SUBJECTS = _list(
    "Lighthouses, Beekeeping, Tidal Maps, Bookbinding, Winter Stories, Clockwork, Mountain Huts, Ferries, Paper, Salt, "
    "Weather, Letters, Small Machines, Orchards, Night Trains, Islands, Ghosts & Spirits, Cookery, Poetry, Essays, "
    "Graphic Novels, Children's Books, Detective Stories, Imaginary Countries, Chess, Rivers, Glass, Textiles, Birds, "
    "Mathematics, Lost Languages, Gardens, Music, Architecture, Walking, Memoir",
    ", ",
)
HOUSES = _list(
    "Hollow Oak Press, Nordlys & Sønner, Editions du Carnet, Verlag Am Wehr, Two Lanterns Books, 灯台書房, "
    'Quire & Co., The "Third" Press, Ediciones Marjal, Wydawnictwo Latarnik, Saltmarsh University Press, Penny Quarto',
    ", ",
)
LANGUAGES = ("en", "de", "fr", "pl", "pt-BR", "ja", "ar", "he", "ru", "nb")
_REMARKS = ("“Best of the year”", 'p. 42: "never again"', "lent to O'Fennelly, back in May", "½ ★", "")
_FILLER = _list(
    "the a and of in under beyond without between light water paper stone letter winter harbour ledger returned waited "
    "remembered crossed folded counted carried wrote slowly again never twice at dusk before morning while nobody"
)


def luck(seed: str) -> Random:
    """A source of chance that gives the same on every machine."""
    return Random(seed)  # noqa: S311  it invents books, not keys


def normalized(text: str) -> str:
    """Lower case, accents gone, single spaces: how the application writes its ``normalized_…`` columns."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return " ".join(plain.lower().split())


def person(chance: Random) -> str:
    if chance.random() < 0.12:
        return chance.choice(ELSEWHERE)
    middle = f" {chance.choice('ABCDEFGHJKLMNØŠÞ')}." if chance.random() < 0.2 else ""
    return f"{chance.choice(FIRST)}{middle} {chance.choice(LAST)}"


def title(chance: Random) -> str:
    if chance.random() < 0.02:
        return chance.choice(ODD_TITLES)
    adjective, one, other = chance.choice(ADJECTIVES), chance.choice(NOUNS), chance.choice(NOUNS)
    return chance.choice(
        (
            f"The {adjective} {one}",
            f"{one} of the {adjective} {other}",
            f"{one} for {chance.choice(FIRST)}",
            f"{chance.choice(FIRST)}’s {adjective} {one}",
            f"{adjective} {one}s, {adjective} {other}s",
            f"The {one} & the {other}",
        )
    )


def sentence(chance: Random) -> str:
    return " ".join(chance.choices(_FILLER, k=chance.randint(6, 14))).capitalize() + "."


def paragraph(chance: Random, sentences: int) -> str:
    return " ".join(sentence(chance) for _ in range(sentences))


def note(chance: Random) -> str:
    """What a reader writes: a few lines, now and then with what breaks CSV files and JSON made by hand."""
    lines = [sentence(chance) for _ in range(chance.randint(1, 3))]
    lines.insert(0, chance.choice(_REMARKS))
    return chance.choice(("\n", "\r\n", "\n\n", " ")).join(lines)
