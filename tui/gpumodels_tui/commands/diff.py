"""The command `gpumodels-tui diff`: what differs between two documents, or two moments of a recording."""

from __future__ import annotations

import argparse
import stat
import sys
from typing import TYPE_CHECKING, Final

from gpumodels_tui.printing import say, write

if TYPE_CHECKING:
    from gpumodels_tui.comparing.documents import Document
    from gpumodels_tui.sources.opening import Sources

STDIN: Final = "-"
GZIP: Final = b"\x1f\x8b"


class _UsageError(ValueError):
    """The arguments don't go together."""


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Print the difference. Returns the exit code: 1 with a line on stderr if a file can't be used, 2 for bad arguments."""
    from gpumodels_shared.safe_text import safe_text
    from gpumodels_tui.comparing.differences import difference
    from gpumodels_tui.comparing.documents import DocumentError
    from gpumodels_tui.comparing.report import as_json, as_markdown, as_text
    from gpumodels_tui.recording.lines import RecordingError

    try:
        before, after = _documents(arguments)
    except _UsageError as error:
        say(f"error: {safe_text(str(error), 600)}")
        return 2
    except OSError as error:
        say(f"error: {safe_text(str(error.filename), 400)}: {error.strerror}")
        return 1
    except (DocumentError, RecordingError, MemoryError) as error:
        say(f"error: {safe_text(str(error), 600)}")
        return 1
    found = difference(before, after)
    write(as_json(found) if arguments.json else as_markdown(found) if arguments.markdown else as_text(found))
    return 0


def _documents(arguments: argparse.Namespace) -> tuple[Document, Document]:
    if arguments.after is None:
        return _of_recording(arguments)
    if getattr(arguments, "from") or arguments.to:
        raise _UsageError("--from and --to are for one recording, not for two documents")
    if arguments.before == arguments.after == STDIN:
        raise _UsageError("only one of the two documents can come from stdin")
    return _read(arguments.before), _read(arguments.after)


def _read(name: str) -> Document:
    """Raises:
    DocumentError: it is no document.
    OSError: it can't be read.
    """
    from gpumodels_tui.comparing.documents import MOST_BYTES, DocumentError, document_in
    from gpumodels_tui.settings.directories import as_path

    if name == STDIN:
        shown, text = "stdin", b"" if sys.stdin is None else sys.stdin.buffer.read(MOST_BYTES + 1)
    else:
        path = as_path(name)
        shown = str(path)
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise DocumentError(f"{path}: is no file")
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    if text.startswith(GZIP):
        raise DocumentError(f"{shown}: is compressed; give a recording alone, with --from and --to")
    if len(text) > MOST_BYTES:
        raise DocumentError(f"{shown}: is larger than {MOST_BYTES // 1024**2} MB, so it is no document of gpumodels-tui --json")
    try:
        return document_in(text)
    except DocumentError as error:
        raise DocumentError(f"{shown}: {error}") from error


def _of_recording(arguments: argparse.Namespace) -> tuple[Document, Document]:
    """Two moments of a recording: its first and last one if no other is chosen.

    Raises:
        RecordingError: it is no recording.
        _UsageError: a time is none, or the second one is earlier.
    """
    from gpumodels_tui.moments import document_of
    from gpumodels_tui.recording.reading import Cursor, read_recording
    from gpumodels_tui.settings.directories import as_path
    from gpumodels_tui.settings.moments import since_ns

    path = as_path(arguments.before)
    if arguments.before == STDIN:
        raise _UsageError("a second document is needed beside stdin")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(GZIP)) != GZIP:
                raise _UsageError(f"{path}: is no recording; name the later document, too")
    recording = read_recording([path])
    for problem in recording.problems:
        say(f"warning: {problem}")
    ends = recording.begun_at_ns, recording.ended_at_ns
    try:
        times = [
            since_ns(text, ends[1]) if text else end
            for text, end in zip((getattr(arguments, "from"), arguments.to), ends, strict=True)
        ]
    except ValueError as error:
        raise _UsageError(str(error)) from error
    if times[0] >= times[1]:
        raise _UsageError("--from is not before --to; the recording's own times are used where one is not given")
    cursor, found = Cursor(recording), []
    for at_ns in times:
        taken_ns, (feed, hardware, _) = cursor.at(at_ns)
        found.append(document_of(feed, hardware, taken_ns, recording.hosts[0] if recording.hosts else None))
    return found[0], found[1]
