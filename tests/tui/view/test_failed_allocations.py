"""Failed allocations in words."""

from __future__ import annotations

from dataclasses import replace

from gpumodels_shared.schema import OutOfMemory
from gpumodels_tui.view.failed_allocations import in_one_line, report
from snapshots import a_snapshot

GIB = 2**30
AT_NS = 1_780_000_000_000_000_000
FAILURE = OutOfMemory(
    at_ns=AT_NS,
    device="cuda:0",
    message="CUDA out of memory. Tried to allocate 2.00 GiB.",
    requested_bytes=2 * GIB,
    allocated_bytes=22 * GIB,
    reserved_bytes=23 * GIB,
    free_bytes=GIB // 2,
    total_bytes=24 * GIB,
    looked_at_ns=AT_NS - 10**9,
    parts={"weights": 20 * GIB, "other": 2 * GIB},
    models=(("Wan2_2-T2V-A14B-HIGH", 18 * GIB), ("umt5-xxl", 2 * GIB)),
    stage="KSampler",
    recent=((AT_NS - 15 * 10**9, "moved", "umt5-xxl", 2 * GIB),),
)
HOSTILE = "\x1b]0;pwned\x07\u202e\n"


def test_one_line_says_how_much_where_and_what_was_there() -> None:
    expected = "2.0 GB on cuda:0 in KSampler; in use: 23.0 GB of 24.0 GB; largest: Wan2_2-T2V-A14B-HIGH 18.0 GB"
    assert in_one_line(FAILURE) == expected
    assert in_one_line(OutOfMemory(AT_NS)) == "an unknown size on an unknown device"
    assert in_one_line(OutOfMemory(AT_NS, "cpu", requested_bytes=GIB)) == "1.0 GB on host memory"


def test_a_report_says_everything() -> None:
    expected = """\
Out of memory on cuda:0, 2026-05-28 20:26:40 UTC

process    ComfyUI/main.py, pid 4711
versions   Python 3.12.4, torch 2.13.0, gpumodels 0.1.0
noticed    by the program's own error
error      CUDA out of memory. Tried to allocate 2.00 GiB.
stage      KSampler
requested  2.0 GB
allocated  22.0 GB
reserved   23.0 GB
free       512 MB
total      24.0 GB

In memory:
    20.0 GB  weights
     2.0 GB  other

Models there:
    18.0 GB  Wan2_2-T2V-A14B-HIGH
     2.0 GB  umt5-xxl

In the minute before:
   15.0 s before  moved        2.0 GB  umt5-xxl
"""
    process = replace(
        a_snapshot().process,
        label="ComfyUI/main.py",
        pid=4711,
        python_version="3.12.4",
        torch_version="2.13.0",
        sidecar_version="0.1.0",
    )
    assert report(process, FAILURE) == expected


def test_what_is_unknown_is_said_and_never_zero() -> None:
    text = report(a_snapshot().process, OutOfMemory(AT_NS, noticed_by="counter"))
    assert "requested  unknown" in text
    assert "noticed    by the allocator's counter; no error told more" in text
    assert "0 B" not in text
    assert "Models there" not in text


def test_an_old_look_is_said_to_be_old() -> None:
    assert "In memory 30s before:" in report(a_snapshot().process, replace(FAILURE, looked_at_ns=AT_NS - 30 * 10**9))


def test_nothing_hostile_is_printed() -> None:
    listed = replace(FAILURE, models=((HOSTILE, 1),), parts={HOSTILE: 1}, recent=((AT_NS, HOSTILE, HOSTILE, 1),))
    hostile = replace(listed, device=HOSTILE, message=HOSTILE, stage=HOSTILE, noticed_by=HOSTILE)
    shown = report(replace(a_snapshot().process, label=HOSTILE), hostile) + in_one_line(hostile)
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_a_long_list_is_cut_and_said_to_be() -> None:
    text = report(a_snapshot().process, replace(FAILURE, models=tuple((f"m{number}", 1) for number in range(64))))
    assert "and 44 more" in text
