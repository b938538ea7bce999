"""The command `gpumodels-tui oom`: prints what was in memory when an allocation failed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gpumodels_tui.printing import say, write

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Print a record, by default the newest one. Returns the exit code: 1 if there is none."""
    from gpumodels_shared.safe_text import safe_text
    from gpumodels_tui.settings.directories import as_path
    from gpumodels_tui.sources.kept_records import RecordError, read, records_in
    from gpumodels_tui.view.failed_allocations import report

    if arguments.file is not None:
        earlier = [as_path(arguments.file)]
    else:
        earlier, problems = records_in(sources.feed_directories)
        for problem in problems:
            say(f"warning: {safe_text(problem)}")
    while earlier:
        path = earlier.pop()
        try:
            record = read(path)
        except RecordError as error:
            say(f"{'error' if arguments.file is not None else 'warning'}: {safe_text(str(path))}: {safe_text(str(error))}")
            continue
        write(f"{report(record.process, record.failure)}\nrecord     {safe_text(str(path))}\n")
        if earlier:
            write("earlier    " + "\n           ".join(safe_text(str(one)) for one in reversed(earlier)) + "\n")
        return 0
    if arguments.file is None:
        say("no failed allocation is on record; a sidecar keeps what was in memory whenever one fails while it runs")
    return 1
