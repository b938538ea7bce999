"""Headers kept on disk between runs, by path, size, times and inode, so that unchanged files aren't read again.

A SQLite file that any number of viewers may share. The viewer works without it too: if it is damaged, locked, full or not
writable, there is one warning, and files are read as usual. All calls must come from one thread.
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
"""How long to wait while another viewer writes, which takes some ten milliseconds on a slow disk."""

SAVE_EVERY: Final = 512
"""How many headers are collected before they are written together."""

SAVE_EVERY_MATCHES: Final = 8192
"""How many matches are collected before they are written together: less than a second's work."""

HEADERS_VERSION: Final = b"\x02"
"""Part of the stamp of each header; raised when headers of unchanged files say more or other things than before."""

SETTLED_NS: Final = 100_000_000
"""A file that changed more recently than this may change again unnoticed, within one tick of its file system's clock."""

MAX_METADATA_BYTES: Final = 2 * 1024 * 1024
"""The most metadata of one file, uncompressed: more than `travelling_metadata` lets through."""

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
_OLD_TABLE: Final = "matches"
"""A table of older versions, with a row for each pair: emptied, but kept for older viewers that still write it."""

_HEADERS: Final = msgspec.msgpack.Decoder(FileHeader)
_METADATA: Final = msgspec.msgpack.Decoder(dict[str, str])
T = TypeVar("T")


class Cache:
    """One viewer's access to the cache file. If the cache can't be used, `problem` says why."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._is_disabled = False
        self._unsaved: dict[str, tuple[Job, FileHeader]] = {}
        self._unsaved_matches: dict[bytes, dict[bytes, Match]] = {}
        self._unsaved_count = 0
        self._seen: list[str] = []
        self._seen_matches: list[bytes] = []
        self.problem: str | None = None

    def look_up(self, jobs: Sequence[Job]) -> dict[str, FileHeader]:
        """The cached headers, by real path, of the files that haven't changed since they were read."""
        found: dict[str, FileHeader] = {}

        def ask(connection: sqlite3.Connection) -> None:
            for start in range(0, len(jobs), _PATHS_AT_ONCE):
                self._look_up(connection, jobs[start : start + _PATHS_AT_ONCE], found)

        self._attempt(ask, None)
        return found

    def keep(self, job: Job, header: FileHeader) -> None:
        """Store the file's header at the next `save`."""
        if self._is_disabled or not is_settled(job.stamp):
            return
        self._unsaved[job.real] = (job, header)
        if len(self._unsaved) >= SAVE_EVERY:
            self.save()

    def look_up_matches(self, values: Collection[bytes]) -> dict[bytes, dict[bytes, Match]]:
        """The cached matches: by values' keys, then by files' keys (`kept_matches`)."""
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
        """Store the match at the next `save`, under the values' and the files' keys."""
        if self._is_disabled:
            return
        self._unsaved_matches.setdefault(values, {})[files] = match
        self._unsaved_count += 1
        if self._unsaved_count >= SAVE_EVERY_MATCHES:
            self.save()

    def save(self) -> None:
        """Write everything new in one transaction; entries unused for longest are deleted when the file gets too large."""
        if not (self._unsaved or self._unsaved_matches or self._seen or self._seen_matches):
            return
        unsaved, self._unsaved = self._unsaved, {}
        matches, self._unsaved_matches, self._unsaved_count = self._unsaved_matches, {}, 0
        seen, self._seen = self._seen, []
        seen_matches, self._seen_matches = self._seen_matches, []
        today = _today()
        # Packed before the database is locked, so that other viewers wait only for the writing.
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
        """Save, and close the database."""
        self.save()
        self._disable()

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
            if stamp != _header_stamp(job.stamp):
                continue
            try:
                header = _HEADERS.decode(packed)
                if header.is_brief and job.with_all_metadata:
                    metadata = _full_metadata(connection, path, stamp)
                    if metadata is None:
                        continue
                    header = replace(header, metadata=metadata, is_brief=False)
            except (msgspec.MsgspecError, UnicodeDecodeError, zlib.error):
                continue  # not written by this program: treated as missing
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

    def _attempt(self, work: Callable[[sqlite3.Connection], T], default: T) -> T:
        """Do the work and return its result; on an SQLite error, stop using the cache and return `default`."""
        if self._is_disabled:
            return default
        try:
            import sqlite3  # some builds of Python lack it
        except ImportError:
            self._disable("this Python has no sqlite3")
            return default
        try:
            if self._connection is None:
                self._connection = _open(self._path, self._max_bytes)
            return work(self._connection)
        except sqlite3.OperationalError as error:
            self._disable(str(error))
        except sqlite3.DatabaseError as error:
            self._disable(f"damaged ({error}), and removed")
            with contextlib.suppress(OSError):
                self._path.unlink()
        except OSError as error:
            self._disable((error.strerror or type(error).__name__).lower())
        return default

    def _disable(self, problem: str | None = None) -> None:
        connection, self._connection = self._connection, None
        self._is_disabled = True
        self._unsaved.clear()
        self._unsaved_matches.clear()
        self._unsaved_count = 0
        if problem is not None:
            self.problem = f"{self._path}: {problem}; all model files are read again at each start"
        if connection is not None:
            connection.close()


def is_settled(stamp: Stamp) -> bool:
    """Whether any further change of the file would show in its stamp."""
    return time.time_ns() - max(stamp.changed_ns, stamp.modified_ns) >= SETTLED_NS


def _open(path: Path, max_bytes: int) -> sqlite3.Connection:
    """Open the database, or create it. Only this user may write it, since its contents decide what models are called.

    Raises:
        OSError: the file or its directory can't be used or trusted.
        sqlite3.Error: the file is not a usable database.
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
        connection.execute("PRAGMA synchronous = OFF")  # a power cut may damage it; then it is created again
        connection.execute(f"PRAGMA max_page_count = {max_bytes // _PAGE_BYTES}")
        connection.executescript(_SCHEMA)
        _empty_old_table(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _empty_old_table(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_OLD_TABLE,)).fetchone() is None:
        return
    if connection.execute(f"SELECT 1 FROM {_OLD_TABLE} LIMIT 1").fetchone() is not None:
        with connection:
            connection.execute(f"DELETE FROM {_OLD_TABLE}")


def _add_matches(connection: sqlite3.Connection, values: bytes, new: Mapping[bytes, Match], today: int) -> None:
    """Add matches to the stored ones, which another viewer may have changed in the meantime."""
    rows = connection.execute("SELECT packed FROM kept_matches WHERE fingerprint = ?", (values,)).fetchall()
    merged = packed_matches({**unpacked_matches(row for (row,) in rows), **new})
    connection.execute("INSERT OR REPLACE INTO kept_matches VALUES (?, ?, ?)", (values, today, merged))


Row = tuple[bytes, bytes, int, bytes]
"""Path, stamp, day and content, as in the tables' columns."""


def _rows(unsaved: Iterable[tuple[Job, FileHeader]], today: int) -> tuple[list[Row], list[Row]]:
    """Rows for the headers, and for the metadata that are too long to be part of them."""
    headers: list[Row] = []
    metadata: list[Row] = []
    for job, header in unsaved:
        path, stamp, brief = os.fsencode(job.real), _header_stamp(job.stamp), header.brief()
        headers.append((path, stamp, today, msgspec.msgpack.encode(brief)))
        if brief is not header:
            metadata.append((path, stamp, today, zlib.compress(msgspec.msgpack.encode(header.metadata), 1)))
    return headers, metadata


def _header_stamp(stamp: Stamp) -> bytes:
    return HEADERS_VERSION + packed_stamp(stamp)


def _full_metadata(connection: sqlite3.Connection, path: bytes, stamp: bytes) -> Mapping[str, str] | None:
    row = connection.execute("SELECT packed FROM metadata WHERE path = ? AND stamp = ?", (path, stamp)).fetchone()
    if row is None:
        return None
    unpacking = zlib.decompressobj()
    return _METADATA.decode(unpacking.decompress(row[0], MAX_METADATA_BYTES))


def _today() -> int:
    return int(time.time()) // _DAY_SECONDS
