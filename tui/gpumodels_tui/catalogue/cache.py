"""Headers kept on disk from one start to the next, by path, size, times and inode: files that didn't change aren't read again.

A SQLite file that any number of viewers may share. It can always be done without: where it is damaged, locked, full or may not be
written, that is one warning, and files are read as if there were none. All calls come from one thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from gpumodels_shared.fingerprint import Match
from gpumodels_tui.catalogue.index import Job
from gpumodels_tui.catalogue.kept_matches import packed_matches, packed_stamp, unpacked_matches
from gpumodels_tui.catalogue.tree import Stamp
from gpumodels_tui.headers.headers import FileHeader

if TYPE_CHECKING:
    import sqlite3

MAX_BYTES: Final = 128 * 1024 * 1024
LOCKED_SECONDS: Final = 2.0
"""How long another viewer's writing is waited for; it takes some ten milliseconds, on a slow disk."""

SAVE_EVERY: Final = 512
"""Headers held back before they are written together."""

SAVE_EVERY_MATCHES: Final = 8192
"""Matches held back likewise: less than a second's work."""

SETTLED_NS: Final = 100_000_000
"""A file that changed less long ago than this may change again within one tick of its file system's clock, unnoticed."""

MAX_METADATA_BYTES: Final = 2 * 1024 * 1024
"""Of one file, unpacked: more than `travelling_metadata` lets through."""

_PAGE_BYTES: Final = 4096
_PATHS_AT_ONCE: Final = 250
_DAY_SECONDS: Final = 86_400

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS headers (
    path BLOB PRIMARY KEY, stamp BLOB NOT NULL, day INTEGER NOT NULL, header BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS metadata (
    path BLOB PRIMARY KEY, stamp BLOB NOT NULL, day INTEGER NOT NULL, packed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS kept_matches (fingerprint BLOB PRIMARY KEY, day INTEGER NOT NULL, packed BLOB NOT NULL);
"""
_FORMER: Final = "matches"
"""A table of former versions, with a row for each pair: emptied, and left there for viewers that write it still."""

_HEADERS: Final = msgspec.msgpack.Decoder(FileHeader)
_METADATA: Final = msgspec.msgpack.Decoder(dict[str, str])
T = TypeVar("T")


class Cache:
    """One viewer's door to the file. `problem` says why it is shut, where it is."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._is_shut = False
        self._unsaved: dict[str, tuple[Job, FileHeader]] = {}
        self._unsaved_matches: dict[bytes, dict[bytes, Match]] = {}
        self._unsaved_count = 0
        self._seen: list[str] = []
        self._seen_matches: list[bytes] = []
        self.problem: str | None = None

    def look_up(self, jobs: Sequence[Job]) -> dict[str, FileHeader]:
        """Headers, by real path, of those files that are as they were when they were read."""
        found: dict[str, FileHeader] = {}

        def ask(connection: sqlite3.Connection) -> None:
            for start in range(0, len(jobs), _PATHS_AT_ONCE):
                self._look_up(connection, jobs[start : start + _PATHS_AT_ONCE], found)

        self._attempt(ask, None)
        return found

    def keep(self, job: Job, header: FileHeader) -> None:
        """Remember what the file said, at the next `save`."""
        if self._is_shut or not is_settled(job.stamp):
            return
        self._unsaved[job.real] = (job, header)
        if len(self._unsaved) >= SAVE_EVERY:
            self.save()

    def look_up_matches(self, values: Collection[bytes]) -> dict[bytes, dict[bytes, Match]]:
        """All that is kept of these models' values: matches by files' keys, by the values' (`kept_matches`)."""
        found: dict[bytes, dict[bytes, Match]] = {}
        today = _today()

        def ask(connection: sqlite3.Connection) -> None:
            for key in values:
                rows = connection.execute("SELECT packed, day FROM kept_matches WHERE fingerprint = ?", (key,)).fetchall()
                if rows:
                    found[key] = unpacked_matches(row for row, _ in rows)
                    if rows[0][1] != today:
                        self._seen_matches.append(key)

        self._attempt(ask, None)
        return found

    def keep_match(self, values: bytes, files: bytes, match: Match) -> None:
        """Remember it, at the next `save`, under the values' and the files' keys."""
        if self._is_shut:
            return
        self._unsaved_matches.setdefault(values, {})[files] = match
        self._unsaved_count += 1
        if self._unsaved_count >= SAVE_EVERY_MATCHES:
            self.save()

    def save(self) -> None:
        """Write what is new, in one go; what wasn't of use for longest goes when there is no more room."""
        if not (self._unsaved or self._unsaved_matches or self._seen or self._seen_matches):
            return
        unsaved, self._unsaved = self._unsaved, {}
        matches, self._unsaved_matches, self._unsaved_count = self._unsaved_matches, {}, 0
        seen, self._seen = self._seen, []
        seen_matches, self._seen_matches = self._seen_matches, []
        today = _today()
        # Packed before anything is locked: other viewers wait for the writing only.
        headers, metadata = _rows(unsaved.values(), today)

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", headers)
                connection.executemany("INSERT OR REPLACE INTO metadata VALUES (?, ?, ?, ?)", metadata)
                connection.executemany("UPDATE headers SET day = ? WHERE path = ?", [(today, os.fsencode(real)) for real in seen])
                connection.executemany(
                    "UPDATE kept_matches SET day = ? WHERE fingerprint = ?", [(today, values) for values in seen_matches]
                )
                for values, new in matches.items():
                    _add_matches(connection, values, new, today)
            self._make_room(connection)

        self._attempt(write, None)

    def close(self) -> None:
        """Save, and let go."""
        self.save()
        self._shut()

    def _look_up(self, connection: sqlite3.Connection, jobs: Sequence[Job], found: dict[str, FileHeader]) -> None:
        by_path = {os.fsencode(job.real): job for job in jobs}
        marks = ",".join("?" * len(by_path))
        rows = connection.execute(
            f"SELECT path, stamp, day, header FROM headers WHERE path IN ({marks})",
            list(by_path),
        )
        today = _today()
        for path, stamp, day, packed in rows.fetchall():
            job = by_path[path]
            if stamp != packed_stamp(job.stamp):
                continue
            try:
                header = _HEADERS.decode(packed)
                if header.is_brief and job.is_whole:
                    whole = _whole_metadata(connection, path, stamp)
                    if whole is None:
                        continue
                    header = replace(header, metadata=whole, is_brief=False)
            except (msgspec.MsgspecError, UnicodeDecodeError, zlib.error):
                continue  # written by something else: as good as not there
            found[job.real] = header
            if day != today:
                self._seen.append(job.real)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        def pages(pragma: str) -> int:
            return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])

        if (pages("page_count") - pages("freelist_count")) * _PAGE_BYTES < self._max_bytes * 3 // 4:
            return
        with connection:
            for table in ("kept_matches", "metadata", "headers"):
                connection.execute(
                    f"DELETE FROM {table} WHERE rowid IN"
                    f" (SELECT rowid FROM {table} ORDER BY day, rowid LIMIT (SELECT count(*) / 2 FROM {table}))"
                )

    def _attempt(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What comes of it; what SQLite can't do shuts the cache for this viewer."""
        if self._is_shut:
            return otherwise
        try:
            import sqlite3  # some builds of Python come without it
        except ImportError:
            self._shut("this Python has no sqlite3")
            return otherwise
        try:
            if self._connection is None:
                self._connection = _open(self._path, self._max_bytes)
            return work(self._connection)
        except sqlite3.OperationalError as error:
            self._shut(str(error))
        except sqlite3.DatabaseError as error:
            self._shut(f"damaged ({error}), and removed")
            with contextlib.suppress(OSError):
                self._path.unlink()
        except OSError as error:
            self._shut((error.strerror or type(error).__name__).lower())
        return otherwise

    def _shut(self, problem: str | None = None) -> None:
        connection, self._connection = self._connection, None
        self._is_shut = True
        self._unsaved.clear()
        self._unsaved_matches.clear()
        self._unsaved_count = 0
        if problem is not None:
            self.problem = f"{self._path}: {problem}; model files are read anew at each start"
        if connection is not None:
            connection.close()


def is_settled(stamp: Stamp) -> bool:
    """Whether another change of the file would show in its stamp."""
    return time.time_ns() - max(stamp.changed_ns, stamp.modified_ns) >= SETTLED_NS


def _open(path: Path, max_bytes: int) -> sqlite3.Connection:
    """The database, made where there is none; by us alone, since whoever may write it says what models are called.

    Raises:
        OSError: its place is not to be trusted, or not to be had.
        sqlite3.Error: it is no database, or one that can't be used.
    """
    import sqlite3

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid != os.geteuid():
        raise PermissionError(None, "its directory belongs to another user")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(None, "it is not this user's own file")
    connection = sqlite3.connect(path, timeout=LOCKED_SECONDS)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA synchronous = OFF")  # after a power cut it may be damaged, and is made anew
        connection.execute(f"PRAGMA max_page_count = {max_bytes // _PAGE_BYTES}")
        connection.executescript(_SCHEMA)
        _empty_the_former(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _empty_the_former(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_FORMER,)).fetchone() is None:
        return
    if connection.execute(f"SELECT 1 FROM {_FORMER} LIMIT 1").fetchone() is not None:
        with connection:
            connection.execute(f"DELETE FROM {_FORMER}")


def _add_matches(connection: sqlite3.Connection, values: bytes, new: Mapping[bytes, Match], today: int) -> None:
    """These to what is there, which another viewer may have written meanwhile."""
    rows = connection.execute("SELECT packed FROM kept_matches WHERE fingerprint = ?", (values,)).fetchall()
    together = packed_matches({**unpacked_matches(row for (row,) in rows), **new})
    connection.execute("INSERT OR REPLACE INTO kept_matches VALUES (?, ?, ?)", (values, today, together))


Row = tuple[bytes, bytes, int, bytes]
"""Path, stamp, day, content."""


def _rows(unsaved: Iterable[tuple[Job, FileHeader]], today: int) -> tuple[list[Row], list[Row]]:
    """Headers, and the metadata of those that are too long to be kept at hand."""
    headers: list[Row] = []
    metadata: list[Row] = []
    for job, header in unsaved:
        path, stamp, brief = os.fsencode(job.real), packed_stamp(job.stamp), header.brief()
        headers.append((path, stamp, today, msgspec.msgpack.encode(brief)))
        if brief is not header:
            metadata.append((path, stamp, today, zlib.compress(msgspec.msgpack.encode(header.metadata), 1)))
    return headers, metadata


def _whole_metadata(connection: sqlite3.Connection, path: bytes, stamp: bytes) -> Mapping[str, str] | None:
    row = connection.execute("SELECT packed FROM metadata WHERE path = ? AND stamp = ?", (path, stamp)).fetchone()
    if row is None:
        return None
    unpacking = zlib.decompressobj()
    return _METADATA.decode(unpacking.decompress(row[0], MAX_METADATA_BYTES))


def _today() -> int:
    return int(time.time()) // _DAY_SECONDS
