from __future__ import annotations

from gpumodels_shared.schema import Stage
from gpumodels_tui.view.model_facts import Fact
from gpumodels_tui.view.stage_facts import facts_of_stages, listed_stages
from snapshots import GIB, MINUTE_NS, NOON_NS
from views import NOON_SECONDS

SECOND_NS = 1_000_000_000
LOADER = Stage(
    "4",
    "CheckpointLoaderSimple",
    NOON_NS - 3 * MINUTE_NS,
    NOON_NS - 2 * MINUTE_NS,
    "cuda:0",
    GIB,
    7 * GIB,
    9 * GIB,
    ("/models/wan.safetensors",),
)
SAMPLER = Stage("7.0.0.1", "KSampler", NOON_NS - 12 * SECOND_NS, device="cuda:0", bytes_before=7 * GIB)


def test_what_runs_and_what_took_most_come_first() -> None:
    assert facts_of_stages((LOADER, SAMPLER), NOON_SECONDS) == [
        Fact("running", "KSampler (7.0.0.1), for 12s"),
        Fact(
            "took most",
            "CheckpointLoaderSimple (4): +6.0 GB to 7.0 GB on cuda:0, peak 9.0 GB, 2m ago, wan.safetensors",
        ),
    ]


def test_overlapping_stages_stand_in_one_line() -> None:
    (fact,) = facts_of_stages([Stage(str(number), "ApiNode", NOON_NS - SECOND_NS) for number in range(4)], NOON_SECONDS)
    assert fact == Fact("running", "ApiNode (0), for 1s; ApiNode (1), for 1s; ApiNode (2), for 1s …")


def test_without_stages_nothing_is_said() -> None:
    assert facts_of_stages((), NOON_SECONDS) == listed_stages((), NOON_SECONDS) == []


def test_what_took_nothing_or_is_unknown_did_not_take_most() -> None:
    freed = Stage("1", "Unload", NOON_NS - MINUTE_NS, NOON_NS, "cuda:0", 7 * GIB, GIB)
    unknown = Stage("2", "Loader", NOON_NS - MINUTE_NS, NOON_NS, "cpu")
    assert facts_of_stages((freed, unknown), NOON_SECONDS) == []


def test_those_that_are_over_are_listed_the_last_first() -> None:
    freed = Stage("1", "Unload", NOON_NS - 1500 * 10**6, NOON_NS, "cpu", 7 * GIB, GIB)
    after = Stage("2", "Loader", NOON_NS - 90 * SECOND_NS, NOON_NS, "cpu", None, GIB)
    same = Stage("3", "Note", NOON_NS, NOON_NS, "cuda:0", GIB, GIB)
    unknown = Stage("", "", NOON_NS, NOON_NS, files=("a.pth", "b.pth", "c.pth", "d.pth"))
    assert listed_stages((LOADER, freed, after, same, unknown, SAMPLER), NOON_SECONDS) == [
        Fact("ran", "0s ago  a node, 0.0 s, a.pth, b.pth, c.pth …"),
        Fact("", "0s ago  Note (3), 0.0 s: unchanged, 1.0 GB on cuda:0"),
        Fact("", "0s ago  Loader (2), 1m: 1.0 GB in host memory"),
        Fact("", "0s ago  Unload (1), 1.5 s: \u22126.0 GB to 1.0 GB in host memory"),
        Fact("", "2m ago  CheckpointLoaderSimple (4), 1m: +6.0 GB to 7.0 GB on cuda:0, peak 9.0 GB, wan.safetensors"),
    ]


def test_what_a_workflow_says_steers_no_terminal() -> None:
    evil = "\x1b]0;owned\x07\u202e"
    facts = [*facts_of_stages((Stage(evil, evil, NOON_NS, device=evil),), NOON_SECONDS)]
    facts += listed_stages((Stage(evil, evil, NOON_NS, NOON_NS, evil, 1, 2, 3, (evil,)),), NOON_SECONDS)
    assert all(fact.value.isprintable() for fact in facts)


def test_the_id_that_was_made_for_a_programs_own_stage_is_not_shown() -> None:
    stage = Stage("#7.2", "denoise", NOON_NS - 12 * SECOND_NS)
    assert facts_of_stages((stage,), NOON_SECONDS) == [Fact("running", "denoise, for 12s")]
