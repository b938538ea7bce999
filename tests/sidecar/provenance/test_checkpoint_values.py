"""The values of checkpoints that were read: as they were sampled, or from their files as long as these are the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from gpumodels.provenance import checkpoint_values
from gpumodels.provenance.checkpoint_values import CheckpointValues
from gpumodels.provenance.files_read import ReadFile, SampledFile, stamp_of
from gpumodels.provenance.host_samples import RawSample
from gpumodels_shared.fingerprint import VALUES, Match, decode_samples
from gpumodels_shared.schema import Fingerprint, TensorSample
from model_files import BROKEN, write_model
from work import counted

State = dict[str, torch.Tensor]


@pytest.fixture
def checkpoints() -> CheckpointValues:
    return CheckpointValues(lambda: None)


def a_state(first: float = 0.0) -> State:
    return {f"{key}.weight": first + position + torch.arange(64.0).reshape(8, 8) for position, key in enumerate("abc")}


def samples(state: State) -> tuple[TensorSample, ...]:
    data = {key: bytes(tensor.flatten()[:VALUES].contiguous().view(torch.uint8).tolist()) for key, tensor in state.items()}
    return tuple(TensorSample(key, "float32", tuple(state[key].shape), sample) for key, sample in data.items())


def sampled(state: State) -> SampledFile:
    return SampledFile({one.key: RawSample(one.dtype, tuple(one.shape), one.data) for one in samples(state)})


def a_file(path: Path, state: State | None = None) -> ReadFile:
    """A file of these values, as it was just read."""
    path.write_bytes(save(a_state() if state is None else state))
    return ReadFile(str(path), 1, None, stamp_of(str(path)))


def is_had(checkpoints: CheckpointValues, *files: ReadFile) -> bool:
    with checkpoints.values_of("whole", files) as values:
        return values is not None


def matched(checkpoints: CheckpointValues, state: State, *files: ReadFile, whole: str = "whole") -> Match:
    with checkpoints.values_of(whole, files) as values:
        assert values is not None
        return checkpoints.match(whole, files, values, decode_samples(Fingerprint(samples(state), 1)))


def test_values_that_were_sampled_when_the_file_was_read_are_used_whatever_is_there_now(checkpoints: CheckpointValues) -> None:
    state = a_state()
    assert matched(checkpoints, state, ReadFile("/gone/a.pt", 1, sampled(state))) == Match(3, 3)
    shards = [ReadFile(f"/gone/{key}.pt", 1, sampled({key: tensor})) for key, tensor in state.items()]
    assert matched(checkpoints, state, *shards, whole="shards") == Match(3, 3)


def test_a_safetensors_file_is_read_again(checkpoints: CheckpointValues, tmp_path: Path) -> None:
    file = a_file(tmp_path / "a.safetensors")
    assert matched(checkpoints, a_state(), file) == Match(3, 3)
    assert matched(checkpoints, a_state(0.5), file).matched == 0


def test_shards_are_read_as_one(checkpoints: CheckpointValues, tmp_path: Path) -> None:
    state = a_state()
    files = [a_file(tmp_path / f"{key}.safetensors", {key: tensor}) for key, tensor in state.items()]
    assert matched(checkpoints, state, *files) == Match(3, 3)


def test_a_file_that_is_another_since_it_was_read_is_no_evidence(checkpoints: CheckpointValues, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    file = a_file(path)
    assert is_had(checkpoints, file)
    os.utime(path, (1e9, 1e9))
    assert not is_had(checkpoints, file)
    path.unlink()
    assert not is_had(checkpoints, file)


def test_a_file_that_nobody_saw_being_read_is_read_as_it_is_now(checkpoints: CheckpointValues, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    a_file(path)
    unseen = ReadFile(str(path), 0, None)
    assert matched(checkpoints, a_state(), unseen) == Match(3, 3)
    a_file(path, a_state(0.5))
    os.utime(path, (1e9, 1e9))  # or the file system's clock might not have ticked
    assert matched(checkpoints, a_state(0.5), unseen) == Match(3, 3)


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_readable_file_is_no_evidence_and_no_error(checkpoints: CheckpointValues, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(BROKEN[kind][0])
    with checkpoints.values_of("whole", [ReadFile(str(path), 1, None)]) as values:
        assert values is None or kind in ("metadata of numbers", "unknown dtype")


def test_of_a_format_that_can_not_be_read_again_only_samples_are_had(checkpoints: CheckpointValues, tmp_path: Path) -> None:
    file = a_file(tmp_path / "a.ckpt")
    assert not is_had(checkpoints, file)
    safe = a_file(tmp_path / "b.safetensors")
    assert not is_had(checkpoints, safe, file)
    assert is_had(checkpoints, safe)


def test_a_second_model_costs_no_read_of_a_file_that_is_known(checkpoints: CheckpointValues, tmp_path: Path) -> None:
    file = a_file(tmp_path / "a.safetensors")
    assert matched(checkpoints, a_state(), file) == Match(3, 3)
    with counted() as work:
        assert matched(checkpoints, a_state(), file) == Match(3, 3)
    assert work.bytes_read == 0


def test_a_file_that_was_read_anew_is_compared_anew(checkpoints: CheckpointValues) -> None:
    before, after = sampled(a_state()), sampled(a_state(0.5))
    assert matched(checkpoints, a_state(), ReadFile("/m/a.pt", 1, before)) == Match(3, 3)
    assert matched(checkpoints, a_state(0.5), ReadFile("/m/a.pt", 2, after)) == Match(3, 3)


def test_headers_are_kept_of_the_latest_files_alone(
    checkpoints: CheckpointValues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_values, "MAX_KEPT_TENSORS", 5)
    files = {name: a_file(tmp_path / f"{name}.safetensors") for name in ("first", "second")}

    def bytes_read(name: str) -> int:
        with counted() as work, checkpoints.values_of(name, [files[name]]) as values:
            assert values is not None
        return work.bytes_read

    assert bytes_read("first") > 0
    assert bytes_read("first") == 0
    assert bytes_read("second") > 0
    assert bytes_read("second") == 0
    assert bytes_read("first") > 0


def test_a_file_of_more_tensors_than_are_kept_can_be_had_all_the_same(
    checkpoints: CheckpointValues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_values, "MAX_KEPT_TENSORS", 1)
    monkeypatch.setattr(checkpoint_values, "MAX_KEPT_VALUES", 1)
    file = a_file(tmp_path / "a.safetensors")
    for _ in range(2):
        assert matched(checkpoints, a_state(), file) == Match(3, 3)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are listed on Linux alone")  # noqa: PTH112
def test_no_file_is_open_afterwards_whatever_happened_meanwhile(checkpoints: CheckpointValues, tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors")
    before = len(os.listdir("/proc/self/fd"))

    def reads_and_fails() -> None:
        with checkpoints.values_of("whole", [ReadFile(str(path), 1, None)]) as values:
            assert values is not None
            values.read("weight", 0, 4)
            assert len(os.listdir("/proc/self/fd")) == before + 1
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        reads_and_fails()
    assert len(os.listdir("/proc/self/fd")) == before
