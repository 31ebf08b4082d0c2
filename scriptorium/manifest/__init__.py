"""The record of a backup: written as sealed JSON, read in every version ever written.

`naming` makes names, `document` reads and writes manifests and annotations, `entries` lists of members, `record` is the
codec of all records, `unrecorded` finds what a manifest lacks, `unnamed` leaves
the names of files out.
"""

from scriptorium.manifest.document import VERSION, DamagedManifest, dumps, dumps_annotations, loads, loads_annotations
from scriptorium.manifest.entries import KINDS, decimal_seconds, entry_line, entry_of, file_list, parse_entry_line
from scriptorium.manifest.naming import (
    annotations_key,
    archive_name,
    backup_label,
    database_kind_of,
    is_archive_name,
    label_of,
    manifest_key,
    new_id,
)
from scriptorium.manifest.record import Record, decoded, encoded, readable, sealed
from scriptorium.manifest.unnamed import without_names
from scriptorium.manifest.unrecorded import uncompared, unrecorded

__all__ = [
    "KINDS",
    "VERSION",
    "DamagedManifest",
    "Record",
    "annotations_key",
    "archive_name",
    "backup_label",
    "database_kind_of",
    "decimal_seconds",
    "decoded",
    "dumps",
    "dumps_annotations",
    "encoded",
    "entry_line",
    "entry_of",
    "file_list",
    "is_archive_name",
    "label_of",
    "loads",
    "loads_annotations",
    "manifest_key",
    "new_id",
    "parse_entry_line",
    "readable",
    "sealed",
    "uncompared",
    "unrecorded",
    "without_names",
]
