"""Headers kept on disk from one start to the next, by path, size, times and inode: files that didn't change aren't read again.

A SQLite file that any number of viewers may share. It can always be done without: where it is damaged, locked, full or may not be
written, that is one warning, and files are read as if there were none. All calls come from one thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.headers import FileHeader
from gpumodels_tui.catalogue.index import Job
from gpumodels_tui.catalogue.tree import Stamp

if TYPE_CHECKING:
    import sqlite3

MAX_BYTES: Final = 128 * 1024 * 1024
LOCKED_SECONDS: Final = 2.0
"""How long another viewer's writing is waited for; it takes some ten milliseconds, on a slow disk."""

SAVE_EVERY: Final = 512
"""Headers, or matches, held back before they are written together."""

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
CREATE TABLE IF NOT EXISTS matches (
    fingerprint BLOB NOT NULL, files BLOB NOT NULL, day INTEGER NOT NULL, matched INTEGER NOT NULL, compared INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, files)) WITHOUT ROWID;
"""

_HEADERS: Final = msgspec.msgpack.Decoder(FileHeader)
_METADATA: Final = msgspec.msgpack.Decoder(dict[str, str])
T = TypeVar("T")

Files = tuple[tuple[str, Stamp], ...]
"""One model's: real paths."""

_STAMP: Final = struct.Struct("<QqqQ")


class Cache:
    """One viewer's door to the file. `problem` says why it is shut, where it is."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._is_shut = False
        self._unsaved: dict[str, tuple[Job, FileHeader]] = {}
        self._unsaved_matches: list[tuple[bytes, bytes, Match]] = []
        self._seen: list[str] = []
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
        if self._is_shut or time.time_ns() - max(job.stamp.changed_ns, job.stamp.modified_ns) < SETTLED_NS:
            return
        self._unsaved[job.real] = (job, header)
        if len(self._unsaved) >= SAVE_EVERY:
            self.save()

    def look_up_matches(self, fingerprint: Fingerprint, candidates: Iterable[Files]) -> dict[Files, Match]:
        """How much of the fingerprint agreed with each of these, files of one model together, where it was ever found out."""

        def ask(connection: sqlite3.Connection) -> dict[bytes, Match]:
            rows = connection.execute(
                "SELECT files, matched, compared FROM matches WHERE fingerprint = ?", (_digest(fingerprint),)
            )
            return {files: Match(int(matched), int(compared)) for files, matched, compared in rows}

        kept: dict[bytes, Match] = self._attempt(ask, {})
        if not kept:
            return {}
        return {files: match for files in candidates if (match := kept.get(_files_digest(files))) is not None}

    def keep_match(self, fingerprint: Fingerprint, files: Files, match: Match) -> None:
        """Remember it, at the next `save`."""
        if self._is_shut:
            return
        self._unsaved_matches.append((_digest(fingerprint), _files_digest(files), match))
        if len(self._unsaved_matches) >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write what is new, in one go; what wasn't of use for longest goes when there is no more room."""
        if not (self._unsaved or self._unsaved_matches or self._seen):
            return
        unsaved, self._unsaved = self._unsaved, {}
        matches, self._unsaved_matches = self._unsaved_matches, []
        seen, self._seen = self._seen, []
        today = _today()
        # Packed before anything is locked: other viewers wait for the writing only.
        headers, metadata = _rows(unsaved.values(), today)

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", headers)
                connection.executemany("INSERT OR REPLACE INTO metadata VALUES (?, ?, ?, ?)", metadata)
                connection.executemany(
                    "INSERT OR REPLACE INTO matches VALUES (?, ?, ?, ?, ?)",
                    [(values, files, today, match.matched, match.compared) for values, files, match in matches],
                )
                connection.executemany("UPDATE headers SET day = ? WHERE path = ?", [(today, os.fsencode(real)) for real in seen])
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
            if stamp != _packed(job.stamp):
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
            for table in ("metadata", "headers"):
                connection.execute(
                    f"DELETE FROM {table} WHERE rowid IN"
                    f" (SELECT rowid FROM {table} ORDER BY day, rowid LIMIT (SELECT count(*) / 2 FROM {table}))"
                )
            connection.execute("DELETE FROM matches WHERE day < ?", (_today() - 7,))

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
        if problem is not None:
            self.problem = f"{self._path}: {problem}; model files are read anew at each start"
        if connection is not None:
            connection.close()


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
    except BaseException:
        connection.close()
        raise
    return connection


Row = tuple[bytes, bytes, int, bytes]
"""Path, stamp, day, content."""


def _rows(unsaved: Iterable[tuple[Job, FileHeader]], today: int) -> tuple[list[Row], list[Row]]:
    """Headers, and the metadata of those that are too long to be kept at hand."""
    headers: list[Row] = []
    metadata: list[Row] = []
    for job, header in unsaved:
        path, stamp, brief = os.fsencode(job.real), _packed(job.stamp), header.brief()
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


def _packed(stamp: Stamp) -> bytes:
    """Without the device's number: it is another one after the next boot."""
    return _STAMP.pack(stamp.inode, stamp.modified_ns, stamp.changed_ns, stamp.size_bytes)


def _digest(fingerprint: Fingerprint) -> bytes:
    return hashlib.blake2b(msgspec.msgpack.encode(fingerprint.samples), digest_size=16).digest()


def _files_digest(files: Files) -> bytes:
    together = b"".join(os.fsencode(path) + b"\0" + _packed(stamp) for path, stamp in files)
    return hashlib.blake2b(together, digest_size=16).digest()


def _today() -> int:
    return int(time.time()) // _DAY_SECONDS
