"""Tests of who is looked at from outside: processes on GPUs in which no sidecar is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pytest

from fake_nvml import FakeGpu, fake_nvml
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_tui.outside.facts import NOTHING, KnownBy, OutsideFacts, OutsideModel, Wanted
from gpumodels_tui.outside.looking import OutsideLooks
from gpumodels_tui.sources import gpus
from gpumodels_tui.sources.gpus import GpuProcess, Hardware, HardwareState
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.sources.unattached import Unattached, wanted_in
from snapshots import A100, GIB, H100, NOON_NS, a_feed, a_gpu, a_process, a_process_state, a_snapshot, some_hardware
from work import counted

FACTS = OutsideFacts((OutsideModel(KnownBy.MAPPED, ("/m/a.gguf",)),))


class KnownLooks(OutsideLooks):
    """Knows these facts of everybody, and whom it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[Sequence[Wanted]] = []
        self.facts = FACTS
        self.is_stopped = False

    def see(self, wanted: Sequence[Wanted]) -> Mapping[int, OutsideFacts]:
        self.wanted.append(wanted)
        return {one.pid: self.facts for one in wanted}

    def stop(self) -> None:
        self.is_stopped = True


class KnownSources(Sources, frozen=True):
    looks: KnownLooks | None = None

    def outside(self) -> OutsideLooks:
        assert self.looks is not None, "nobody is to be looked at"
        return self.looks


def hardware(*pids: int) -> HardwareState:
    running = {pid: GpuProcess(pid, ("llama-server", str(pid)), "eve", NOON_NS) for pid in pids if pid != 99}
    gpus = a_gpu(processes=dict.fromkeys(pids, GIB)), a_gpu(1, A100, processes={pids[0]: 2 * GIB} if pids else {})
    return replace(some_hardware(*gpus), running=running)


def test_those_without_a_sidecar_are_wanted_with_their_bytes_on_all_gpus() -> None:
    feed = a_feed(a_process_state(a_snapshot(process=a_process(pid=4711))))
    wanted = wanted_in(hardware(5, 4711, 99, 6), feed)
    assert wanted == [Wanted(5, ("llama-server", "5"), 3 * GIB), Wanted(6, ("llama-server", "6"), GIB)]


@pytest.mark.parametrize("liveness", [Liveness.DEAD, Liveness.EXITED])
def test_a_process_whose_sidecar_has_ended_has_none(liveness: Liveness) -> None:
    feed = a_feed(replace(a_process_state(a_snapshot(process=a_process(pid=7))), liveness=liveness))
    assert [one.pid for one in wanted_in(hardware(7), feed)] == [7]


def test_a_driver_that_does_not_tell_bytes_leaves_them_unknown() -> None:
    state = replace(hardware(7), gpus=(a_gpu(processes={7: None}), a_gpu(1, H100, processes={7: None})))
    assert [one.used_bytes for one in wanted_in(state, a_feed())] == [None]


def test_where_all_have_sidecars_nobody_is_looked_at_and_nothing_is_made() -> None:
    state, feed = hardware(4711), a_feed(a_process_state(a_snapshot(process=a_process(pid=4711))))
    unattached = Unattached(KnownSources())
    assert unattached.see(state, feed) is state
    unattached.stop()


def test_the_facts_are_added_and_stay_the_same_objects_while_nothing_changes() -> None:
    looks = KnownLooks()
    unattached = Unattached(KnownSources(looks=looks))
    state = hardware(7, 8)
    first, second = unattached.see(state, a_feed()), unattached.see(state, a_feed())
    assert first.running[7].outside is FACTS
    assert second.running[7] is first.running[7]
    looks.facts = OutsideFacts(unread="why")
    assert unattached.see(state, a_feed()).running[8].outside.unread == "why"
    unattached.stop()
    assert looks.is_stopped


def test_a_poll_in_which_nothing_changes_reads_nothing_and_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "sees_all_pids", lambda: True)
    pids = [os.getpid(), os.getppid()]
    nvml = fake_nvml(monkeypatch, FakeGpu(H100, processes=dict.fromkeys(pids, GIB)))
    calls: list[int] = []
    monkeypatch.setattr(nvml, "_answer", calls.append)
    reading, unattached = Hardware(), Unattached(Sources())
    state = unattached.look_now(reading.read(), a_feed())
    assert {pid for pid, process in state.running.items() if process.outside is not NOTHING} == set(pids)
    calls.clear()
    state = reading.read()
    of_driver = len(calls)
    with counted() as work:
        seen = unattached.see(state, a_feed())
    assert len(calls) == of_driver, "the driver is asked no more than before"
    assert work.bytes_read == 0
    assert work.steps < 150, work
    assert seen.running.keys() == state.running.keys()
    unattached.stop()
    reading.close()
