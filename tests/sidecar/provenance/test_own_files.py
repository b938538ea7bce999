from __future__ import annotations

import pytest

from gpumodels.provenance import own_files
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin import NO_OBSERVED_FILE, READ, Origin
from gpumodels.provenance.own_files import OwnFiles

FIRST, SECOND = Origin("/a/one.safetensors", READ), Origin("/a/two.safetensors", READ)


def a_sample(number: int) -> RawSample:
    return RawSample("float32", (16,), bytes([number]) * 64)


def test_where_the_values_in_a_written_file_came_from_is_known_if_it_is_of_all_of_them() -> None:
    files = OwnFiles()
    files.add("/tmp/all", [FIRST, SECOND], [a_sample(1), None])
    files.add("/tmp/some", [FIRST, None], [a_sample(2), a_sample(3)])
    files.add("/tmp/none", [NO_OBSERVED_FILE], [a_sample(4)])
    files.add("/tmp/empty", [], [])
    known = [files.get(f"/tmp/{name}") for name in ("all", "some", "none", "empty")]
    assert [file and (file.sources, file.origin) for file in known] == [
        ({FIRST.path, SECOND.path}, FIRST),
        (frozenset(), None),
        (frozenset(), None),
        (frozenset(), None),
    ]
    assert files.get("/a/one.safetensors") is None


def test_a_file_with_one_tensor_says_how_it_begins() -> None:
    files = OwnFiles()
    files.add("/tmp/one", [FIRST], [a_sample(1)])
    files.add("/tmp/two", [FIRST, FIRST], [a_sample(1), a_sample(2)])
    one, two = files.get("/tmp/one"), files.get("/tmp/two")
    assert one is not None
    assert two is not None
    assert (one.sample, two.sample, len(two.hashes)) == (a_sample(1), None, 2)


def test_of_a_file_that_is_written_again_the_last_content_counts() -> None:
    files = OwnFiles()
    files.add("/tmp/swap", [FIRST], [a_sample(1)])
    files.add("/tmp/swap", [SECOND], [a_sample(2)])
    file = files.get("/tmp/swap")
    assert file is not None
    assert (file.origin, file.sample, len(files)) == (SECOND, a_sample(2), 1)


def test_the_oldest_files_are_forgotten_when_there_are_too_many_or_too_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_files, "MAX_FILES", 3)
    monkeypatch.setattr(own_files, "MAX_HASHES", 4)
    files = OwnFiles()
    for number in range(5):
        files.add(f"/tmp/{number}", [FIRST], [a_sample(number)])
    assert [files.get(f"/tmp/{number}") is not None for number in range(5)] == [False, False, True, True, True]
    files.add("/tmp/large", [FIRST] * 3, [a_sample(number) for number in range(3)])
    assert len(files) == 2
