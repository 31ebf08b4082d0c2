"""Bibliotheca's tables as its version for Kuzu 0.11 has them: the 21 kinds of nodes, and the relationships that hold
data in practice. Strings unless marked; JSON is kept in strings, as the application does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

_TYPES = {"": "STRING", "i": "INT64", "b": "BOOL", "f": "DOUBLE", "d": "DATE", "ts": "TIMESTAMP"}
_TIMES = "created_at:ts updated_at:ts"

# The first column is the primary key.
NODES = {
    "User": "id username email password_hash share_current_reading:b share_reading_activity:b share_library:b "
    "is_admin:b is_active:b password_must_change:b failed_login_attempts:i locked_until:ts "
    f"last_login:ts password_changed_at:ts reading_streak_offset:i timezone display_name bio location website {_TIMES}",
    "Book": "id title normalized_title subtitle isbn13 isbn10 asin description published_date:d page_count:i language "
    "cover_url google_books_id openlibrary_id opds_source_id opds_source_updated_at opds_source_entry_hash media_type "
    f"average_rating:f rating_count:i series series_volume series_order:i custom_metadata raw_categories {_TIMES} "
    "audio_length_minutes:i audio_is_abridged:b audio_narrators media_format audiobookshelf_id audio_duration_ms:i "
    "audiobookshelf_updated_at quantity:i",
    "Person": "id name normalized_name birth_date death_date birth_year:i death_year:i birth_place bio website "
    f"openlibrary_id image_url wikidata_id imdb_id alternate_names fuller_name title official_links {_TIMES}",
    "Author": f"id name normalized_name {_TIMES}",
    "ReadingLog": f"id user_id book_id date:d pages_read:i minutes_read:i notes {_TIMES}",
    "ReadingSession": f"id user_id book_id started_at:ts ended_at:ts pages_read:i {_TIMES}",
    "ReadingGoal": f"id user_id year:i target_books:i target_pages:i {_TIMES}",
    "Review": f"id user_id book_id rating:f text {_TIMES}",
    "Category": "id name normalized_name parent_id description level:i color icon aliases book_count:i "
    f"user_book_count:i {_TIMES}",
    "Series": f"id name normalized_name description {_TIMES}",
    "Publisher": f"id name normalized_name country website {_TIMES}",
    "Location": f"id user_id name description location_type is_default:b {_TIMES}",
    "Library": f"id user_id name description {_TIMES}",
    "LibraryShelf": f"id library_id name position:i {_TIMES}",
    "CustomField": f"id name field_type {_TIMES}",
    "CustomFieldDefinition": f"id name display_name field_type is_global:b is_shareable:b options {_TIMES}",
    "UserCustomField": f"id user_id field_name field_value {_TIMES}",
    "ImportJob": f"id user_id status source total:i processed:i errors {_TIMES}",
    "ImportMapping": f"id user_id name field_mappings is_shareable:b usage_count:i {_TIMES}",
    "ImportTask": f"id user_id status progress:f {_TIMES}",
    "GlobalMetadata": f"book_id global_custom_fields revision:i {_TIMES}",
}
RELATIONSHIPS = {
    "AUTHORED": ("Person", "Book", "role order_index:i contribution_type created_at:ts"),
    "CATEGORIZED_AS": ("Book", "Category", "created_at:ts"),
    "PUBLISHED_BY": ("Book", "Publisher", "publication_date:d created_at:ts"),
    "PART_OF_SERIES": ("Book", "Series", "volume_number:i volume_number_double:f series_order:i created_at:ts"),
    "STORED_AT": ("Book", "Location", "user_id created_at:ts"),
    "PARENT_CATEGORY": ("Category", "Category", "created_at:ts"),
    "HAS_PERSONAL_METADATA": (
        "User",
        "Book",
        f"personal_notes start_date:ts finish_date:ts personal_custom_fields {_TIMES}",
    ),
    "LOGGED": ("User", "ReadingLog", "created_at:ts"),
    "FOR_BOOK": ("ReadingLog", "Book", "created_at:ts"),
    "HAS_GLOBAL_METADATA": ("Book", "GlobalMetadata", "created_at:ts"),
    "READS": ("User", "Book", "created_at:ts"),
    "HAS_REVIEW": ("User", "Review", "created_at:ts"),
    "REVIEW_FOR_BOOK": ("Review", "Book", "created_at:ts"),
    "SHELVED_IN": ("Book", "LibraryShelf", "position:i created_at:ts"),
}


class Connection(Protocol):
    """What is used of a Kuzu connection."""

    def execute(self, query: str, parameters: dict[str, object] | None = None) -> object: ...


def columns(table: str) -> Iterator[tuple[str, str]]:
    """The columns of a table in the order of its declaration, with their Kuzu types."""
    text = NODES[table] if table in NODES else RELATIONSHIPS[table][2]
    for word in text.split():
        name, _, mark = word.partition(":")
        yield name, _TYPES[mark]


def create_tables(connection: Connection) -> None:
    for table in NODES:
        declared = [f"{name} {kind}" for name, kind in columns(table)]
        key = declared[0].split()[0]
        connection.execute(f"CREATE NODE TABLE {table}({', '.join(declared)}, PRIMARY KEY({key}))")
    for table, (start, end, _) in RELATIONSHIPS.items():
        declared = [f"{name} {kind}" for name, kind in columns(table)]
        connection.execute(f"CREATE REL TABLE {table}(FROM {start} TO {end}, {', '.join(declared)})")


def arrow_schema(table: str) -> pa.Schema:
    """The form of rows for ``COPY``; for a relationship the two keys come first (``start``, ``end``)."""
    import pyarrow as pa

    forms: dict[str, pa.DataType] = {
        "STRING": pa.string(),
        "INT64": pa.int64(),
        "BOOL": pa.bool_(),
        "DOUBLE": pa.float64(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
    }
    ends = [pa.field("start", pa.string()), pa.field("end", pa.string())] if table in RELATIONSHIPS else []
    return pa.schema([*ends, *(pa.field(name, forms[kind]) for name, kind in columns(table))])
