"""Adopting backups that users already have: archives of Bibliotheca's own backups, dumps of PostgreSQL, our archives.

A foreign archive is repacked into one of ours, so that list, verify, restore and prune need no special case for it. The
warnings of its manifest say how far it can be trusted. The original is never changed.

`file_type` recognises a file by its first bytes. `inventory` is the content of an archive, known before anything is
written; `zip` and `tar` read the two kinds. `metadata` reads what an archive says about itself; `relocation` moves its
content to the paths that are used today. `bibliotheca`, `postgres` and `own` adopt one kind of file each; `adopt` runs
the whole operation.
"""

from scriptorium.operations.adopt.adopt import adopt, adopt_one, soon_removed

__all__ = ["adopt", "adopt_one", "soon_removed"]
