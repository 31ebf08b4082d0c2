"""Taking in what users already have: archives of Bibliotheca's own backups, dumps of PostgreSQL, archives of ours.

A foreign archive is repacked into one of ours, so that list, verify, restore and prune work with nothing special; the
manifest's warnings say how far it can be trusted. The original is never changed.

`form` tells what a file is by its first bytes; `inventory` is what an archive holds, known before anything of it is
written, `zipped` and `tarred` read the two kinds; `foreign` is what it says of itself; `places` puts its contents where
the parts of today have them; `database` opens the database; `dumps` takes PostgreSQL's, `own` our own archives;
`adoption` is the whole of it.
"""

from scriptorium.operations.adopt.adopt import Adopted, Outcome, adopt, adopt_all

__all__ = ["Adopted", "Outcome", "adopt", "adopt_all"]
