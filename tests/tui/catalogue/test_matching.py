"""Tests of who is compared with whom and what follows; and 61 fine-tunes through a real catalogue."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpumodels_shared.fingerprint import COARSE_CLOCK_NS, TENSORS, VALUES, Match, choose_samples, shapes_may_match
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.cache import SETTLED_NS, Cache
from gpumodels_tui.catalogue.facts import CatalogueState, ValuesMatch
from gpumodels_tui.catalogue.index import KnownFile
from gpumodels_tui.catalogue.kept_matches import files_key
from gpumodels_tui.catalogue.matching import (
    MAX_NAMES_BYTES,
    MAX_SAMPLE_BYTES,
    MAX_SAMPLES,
    Matching,
    fingerprints_within_limits,
    parts_of,
)
from gpumodels_tui.catalogue.watch import Catalogue
from gpumodels_tui.headers.header_reader import FileRead, HeaderWorker, NoWorkerError
from gpumodels_tui.headers.headers import Wanted
from known_files import a_known_file
from processes import wait_until

TAKEN_NS = 1_000_000_000
WITHIN_SECONDS = 60.0

WHOLE, PATCHED, NONE = Match(2, 2), Match(3, 4), Match(0, 2)


def a_fingerprint(*shapes: tuple[int, ...], taken_at_ns: int = TAKEN_NS) -> Fingerprint:
    samples = tuple(TensorSample(f"t{number}", "float32", shape, b"data") for number, shape in enumerate(shapes))
    return Fingerprint(samples, taken_at_ns)


SQUARES = a_fingerprint((4, 4), (8, 8))


def verdict_of(
    files: Sequence[KnownFile], matches: Mapping[str, Match], fingerprint: Fingerprint = SQUARES
) -> ValuesMatch | None:
    """What is known when all is compared that must be."""
    matching = Matching()
    matching.want([fingerprint])
    matching.find_candidates(files)
    while (comparison := matching.next_comparison()) is not None:
        assert matching.verdicts() == {}
        matching.compared(comparison, [matches.get(comparison.candidate.names[0])])
    return matching.verdicts().get(fingerprint)


def squares(*paths: str) -> list[KnownFile]:
    return [a_known_file(path, (4, 4), (8, 8)) for path in paths]


def test_the_only_file_that_agrees_is_the_one() -> None:
    assert verdict_of(squares("/a", "/b"), {"/b": WHOLE, "/a": NONE}) == ValuesMatch(("/b",), (), 2, 2)


def test_a_tie_names_its_candidates_and_no_file() -> None:
    assert verdict_of(squares("/c", "/a", "/b"), {"/c": WHOLE, "/a": WHOLE}) == ValuesMatch((), ("/a", "/c"), 2, 2)


def test_merged_weights_are_the_files_that_most_of_them_agree_with() -> None:
    fingerprint = a_fingerprint((4, 4), (4, 4), (4, 4), (8, 8))
    assert verdict_of(squares("/a", "/b"), {"/a": PATCHED}, fingerprint) == ValuesMatch(("/a",), (), 3, 4)


def test_no_file_agrees_and_none_is_named() -> None:
    assert verdict_of(squares("/a"), {"/a": Match(1, 4)}) is None
    assert verdict_of(squares("/a"), {}) is None
    assert verdict_of([], {}) is None


def test_a_file_written_after_the_values_were_seen_is_not_compared() -> None:
    late = a_known_file("/late", (4, 4), (8, 8), modified_ns=TAKEN_NS + 1)
    assert verdict_of([late], {"/late": WHOLE}) is None


def test_a_file_of_other_shapes_is_not_compared() -> None:
    assert verdict_of([a_known_file("/a", (4, 5), (8, 9))], {"/a": WHOLE}) is None


def test_a_symlinks_name_is_the_files() -> None:
    blob = a_known_file("/hub/blobs/0f", (4, 4), (8, 8), aliases=("/hub/snapshots/x/model.safetensors",))
    verdict = verdict_of([blob], {"/hub/snapshots/x/model.safetensors": WHOLE})
    assert verdict == ValuesMatch(("/hub/snapshots/x/model.safetensors",), (), 2, 2)


def test_a_file_of_the_same_tick_as_the_values_may_have_been_written_from_them() -> None:
    (same_tick,) = [a_known_file("/same", (4, 4), (8, 8), modified_ns=TAKEN_NS - COARSE_CLOCK_NS + 1)]
    assert verdict_of([same_tick], {"/same": WHOLE}) is None


@pytest.mark.parametrize(
    ("shapes", "is_one"),
    [
        ([(4, 4), (8, 8)], True),
        ([(4, 4)], True),
        ([(12, 4), (24, 8)], True),
        ([(2, 4), (4, 8)], True),
        ([(400, 4), (800, 8)], False),
        ([(4, 4, 1)], False),
        ([()], False),
    ],
)
def test_half_of_the_samples_need_a_place_whole_or_fused(shapes: list[tuple[int, ...]], is_one: bool) -> None:
    assert shapes_may_match(shapes, [sample.shape for sample in SQUARES.samples]) is is_one


def test_what_was_compared_stands_until_the_file_changes() -> None:
    matching = Matching()
    matching.want([SQUARES])
    matching.find_candidates(squares("/a"))
    comparison = matching.next_comparison()
    assert comparison is not None
    matching.compared(comparison, [WHOLE])
    matching.find_candidates(squares("/a", "/b"))
    again = matching.next_comparison()
    assert again is not None
    assert again.candidate.names == ("/b",)
    assert matching.verdicts() == {SQUARES: ValuesMatch(("/a",), (), 2, 2)}  # until something better is known
    matching.find_candidates([a_known_file("/a", (4, 4), (8, 8), modified_ns=2)])
    changed = matching.next_comparison()
    assert changed is not None
    assert changed.candidate.names == ("/a",)


def a_pair(ones: int = 4, others: int = 4) -> Fingerprint:
    """Of a model that holds two: their tensors are of different shapes."""
    keys = [("te.clip_l.", (4, 4))] * ones + [("te.clip_g.", (8, 8))] * others
    return Fingerprint(
        tuple(TensorSample(f"{prefix}{number}", "float32", shape, b"data") for number, (prefix, shape) in enumerate(keys)),
        TAKEN_NS,
    )


def made_of(matches: Mapping[str, tuple[int, int]], fingerprint: Fingerprint) -> ValuesMatch | None:
    """The verdict where a file has so many of the first part's samples and so many of the second's."""
    matching = Matching()
    matching.want([fingerprint])
    matching.find_candidates([a_known_file(path, (4, 4), (8, 8)) for path in matches])
    while (comparison := matching.next_comparison()) is not None:
        counts = dict(zip(("clip_l", "clip_g"), matches[comparison.candidate.names[0]], strict=True))
        asked = [search.fingerprint.samples for search in comparison.searches]
        parts = [{sample.key.split(".")[1] for sample in samples} for samples in asked]
        matched = [sum(counts[part] for part in those) for those in parts]
        matching.compared(comparison, [Match(count, len(samples)) for count, samples in zip(matched, asked, strict=True)])
    return matching.verdicts().get(fingerprint)


@pytest.mark.parametrize(
    ("matches", "verdict"),
    [
        ({"/l": (4, 0), "/g": (0, 4)}, ValuesMatch(("/g", "/l"), (), 8, 8, (("/g",), ("/l",)))),
        ({"/l": (3, 0), "/g": (0, 4)}, ValuesMatch(("/g", "/l"), (), 7, 8, (("/g",), ("/l",)))),
        ({"/both": (4, 4), "/l": (4, 0)}, ValuesMatch(("/both",), (), 8, 8)),
        ({"/both": (3, 3), "/l": (1, 0)}, ValuesMatch(("/both",), (), 6, 8)),
        ({"/l": (4, 0), "/copy": (4, 0), "/g": (0, 4)}, ValuesMatch((), ("/g", "/copy", "/l"), 8, 8)),
        ({"/g": (0, 4)}, None),
        ({"/l": (2, 0), "/g": (0, 3)}, None),
    ],
)
def test_a_model_of_several_files_is_known_by_all_of_them(
    matches: Mapping[str, tuple[int, int]], verdict: ValuesMatch | None
) -> None:
    assert made_of(matches, a_pair()) == verdict


def test_a_few_layers_or_many_blocks_are_no_parts_that_a_file_may_have_for_itself() -> None:
    assert parts_of(a_pair(ones=1)) == ()
    assert parts_of(a_pair(others=0)) == ()
    blocks = [TensorSample(f"{number % 5}.w{number}", "float32", (4, 4), b"data") for number in range(16)]
    assert parts_of(Fingerprint(tuple(blocks), TAKEN_NS)) == ()
    assert [len(part.samples) for part in parts_of(a_pair(ones=3, others=5))] == [5, 3]


def test_a_part_is_looked_for_again_when_files_come() -> None:
    matching, pair = Matching(), a_pair()
    matching.want([pair])
    for paths in (["/g"], ["/g", "/l"]):
        matching.find_candidates([a_known_file(path, (4, 4), (8, 8)) for path in paths])
        while (comparison := matching.next_comparison()) is not None:
            own = "clip_l" if comparison.candidate.names[0] == "/l" else "clip_g"
            asked = [search.fingerprint.samples for search in comparison.searches]
            matching.compared(comparison, [Match(sum(own in one.key for one in samples), len(samples)) for samples in asked])
    assert matching.verdicts()[pair].parts == (("/g",), ("/l",))


def test_a_file_is_compared_once_with_all_who_wait_for_it_and_the_rest_of_an_answer_is_asked_for_again() -> None:
    others = [a_fingerprint((4, 4), (8, 8), taken_at_ns=TAKEN_NS + number) for number in range(3)]
    matching = Matching()
    matching.want(others)
    matching.find_candidates(squares("/a", "/b"))
    asked = []
    while (comparison := matching.next_comparison()) is not None:
        asked.append((comparison.candidate.names[0], len(comparison.searches)))
        matching.compared(comparison, [WHOLE, NONE] if len(asked) == 1 else [NONE] * len(comparison.searches))
    assert sorted(asked) == sorted([(asked[0][0], 3), (asked[0][0], 1), ("/a" if asked[0][0] == "/b" else "/b", 3)])
    assert matching.verdicts() == {others[0]: ValuesMatch((asked[0][0],), (), 2, 2)}
    assert matching.unsettled() == frozenset()


def test_what_a_files_reading_told_counts_when_files_are_looked_through() -> None:
    matching, (file,) = Matching(), squares("/a")
    matching.want([SQUARES, a_fingerprint((4, 4), taken_at_ns=0)])
    searches = matching.searches_for(file.stamp.modified_ns)
    assert [search.fingerprint for search in searches] == [SQUARES]  # the other one's values were there before the file
    matching.read(files_key(((file.facts.path, file.stamp),)), searches, [WHOLE])
    assert (matching.verdicts(), SQUARES in matching.unsettled()) == ({}, True)
    assert matching.find_candidates([file]) == []
    assert matching.verdicts() == {SQUARES: ValuesMatch(("/a",), (), 2, 2)}
    assert matching.unsettled() == frozenset()


def test_what_was_kept_of_the_same_values_need_not_be_compared() -> None:
    matching, files = Matching(), squares("/a", "/b")
    matching.want([SQUARES])
    (waiting,) = matching.find_candidates(files)
    a, b = (files_key(((file.facts.path, file.stamp),)) for file in files)
    matching.recalled({waiting.values: {a: WHOLE, b"gone": WHOLE}, b"others": {b: WHOLE}})
    comparison = matching.next_comparison()
    assert comparison is not None
    assert comparison.candidate.key == b
    matching.compared(comparison, [NONE])
    assert matching.verdicts() == {SQUARES: ValuesMatch(("/a",), (), 2, 2)}


def test_whether_shapes_fit_is_asked_once_for_all_models_and_files_of_the_same_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[tuple[int, ...]]] = []

    def asking(shapes: Iterable[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]) -> bool:
        asked.append(wanted)
        return shapes_may_match(shapes, wanted)

    monkeypatch.setattr("gpumodels_tui.catalogue.matching.shapes_may_match", asking)
    matching = Matching()
    matching.want(a_fingerprint((4, 4), (8, 8), taken_at_ns=TAKEN_NS + number) for number in range(20))
    assert len(matching.find_candidates(squares(*map(str, range(50))))) == 20
    assert len(asked) == 1


def test_what_no_sidecar_of_ours_wrote_is_not_looked_for() -> None:
    sample = TensorSample("x", "float32", (4, 4), bytes(64))
    long_key, long_data = replace(sample, key="x" * MAX_NAMES_BYTES), replace(sample, data=bytes(MAX_SAMPLE_BYTES + 1))
    giants = [Fingerprint(samples, TAKEN_NS) for samples in ((long_key,), (long_data,), (sample,) * (MAX_SAMPLES + 1))]
    assert fingerprints_within_limits([SQUARES, *giants, SQUARES]) == (SQUARES,)


def test_nobody_is_searched_for_who_is_not_asked_for_any_more() -> None:
    matching = Matching()
    matching.want([SQUARES])
    matching.find_candidates(squares("/a"))
    comparison = matching.next_comparison()
    assert comparison is not None
    matching.want([])
    assert matching.next_comparison() is None
    matching.compared(comparison, [WHOLE])
    assert matching.verdicts() == {}


# Real files, a real worker.

State = dict[str, torch.Tensor]


def a_transformer(seed: int = 0) -> State:
    """Twelve blocks as diffusion transformers have them, small."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for block in range(12):
        for name, shape in (("attn.q", (48, 48)), ("attn.k", (48, 48)), ("attn.v", (48, 48)), ("mlp.up", (96, 48))):
            state[f"blocks.{block}.{name}.weight"] = torch.randn(shape, generator=generator) * 0.05
        state[f"blocks.{block}.norm.weight"] = torch.ones(48)
    return state


def fine_tuned(state: Mapping[str, torch.Tensor], seed: int, strength: float = 0.01) -> State:
    generator = torch.Generator().manual_seed(1_000 + seed)
    return {
        key: value if "norm" in key else value * (1 + strength * torch.randn(value.shape, generator=generator))
        for key, value in state.items()
    }


def fingerprint_of(state: Mapping[str, torch.Tensor]) -> Fingerprint:
    def sample(key: str) -> TensorSample | None:
        flat = state[key].detach().contiguous().view(-1)[:VALUES]
        data = bytes(flat.view(torch.uint8).tolist())
        return TensorSample(key, str(flat.dtype).removeprefix("torch."), tuple(state[key].shape), data)

    elements = {key: value.numel() for key, value in state.items()}
    return Fingerprint(choose_samples(elements, sample), time.time_ns() + COARSE_CLOCK_NS)  # the file was written just now


def cast(state: Mapping[str, torch.Tensor], *dtypes: str) -> State:
    result = dict(state)
    for dtype in dtypes:
        result = {key: value.to(getattr(torch, dtype)) for key, value in result.items()}
    return result


def find(directory: Path, fingerprints: Sequence[Fingerprint], cache: Cache | None = None) -> dict[Fingerprint, ValuesMatch]:
    """What a catalogue of this directory finds out in one go."""
    catalogue = Catalogue([directory], cache=cache)
    catalogue.find_files_of(fingerprints)
    state = catalogue.read_now([], WITHIN_SECONDS)
    assert (state.pending, state.warnings) == (0, ())
    return dict(state.values)


def wait_until_settled(directory: Path) -> None:
    """Until the newest file is so old that what it says is kept."""
    newest = max(path.stat().st_ctime_ns for path in directory.iterdir())
    wait_until(lambda: time.time_ns() - newest > 2 * SETTLED_NS)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, State]]:
    """A base model and 60 fine-tunes of it."""
    directory = tmp_path_factory.mktemp("models")
    base = a_transformer()
    states = {"base": base, **{f"tune-{number:02d}": fine_tuned(base, number) for number in range(60)}}
    for name, state in states.items():
        save_file(state, directory / f"{name}.safetensors")
    return directory, states


@pytest.mark.slow
@pytest.mark.parametrize("dtypes", [("float32",), ("float16",), ("bfloat16",), ("bfloat16", "float16"), ("float16", "float32")])
def test_each_of_61_fine_tunes_is_told_from_the_others(family: tuple[Path, dict[str, State]], dtypes: tuple[str, ...]) -> None:
    directory, states = family
    fingerprints = {name: fingerprint_of(cast(state, *dtypes)) for name, state in states.items()}
    found = find(directory, list(fingerprints.values()))
    right = {name: found[one].files == (str(directory / f"{name}.safetensors"),) for name, one in fingerprints.items()}
    assert sum(right.values()) == 61, [name for name, is_right in right.items() if not is_right]


@pytest.mark.slow
def test_what_eight_bits_cannot_tell_apart_is_a_tie(tmp_path: Path) -> None:
    base = a_transformer()
    tunes = {"base": base, "near": fine_tuned(base, 1, 1e-6), "far": fine_tuned(base, 2, 0.3)}
    for name, state in tunes.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    tied, told = (fingerprint_of(cast(tunes[name], "float8_e4m3fn")) for name in ("near", "far"))
    found = find(tmp_path, [tied, told])
    assert found[tied].candidates == (str(tmp_path / "base.safetensors"), str(tmp_path / "near.safetensors"))
    assert found[tied].files == ()
    assert found[told].files == (str(tmp_path / "far.safetensors"),)


@pytest.mark.slow
def test_sixty_one_in_eight_bits_are_right_or_tied_and_never_wrong(family: tuple[Path, dict[str, State]]) -> None:
    directory, states = family
    fingerprints = {name: fingerprint_of(cast(state, "float8_e4m3fn")) for name, state in states.items()}
    found = find(directory, list(fingerprints.values()))
    for name, fingerprint in fingerprints.items():
        verdict, own = found[fingerprint], str(directory / f"{name}.safetensors")
        assert own in verdict.files or own in verdict.candidates


@pytest.mark.slow
def test_renamed_fused_sharded_and_merged_weights_are_found(tmp_path: Path) -> None:
    state = a_transformer(5)
    renamed = {f"model.diffusion_model.{key.replace('blocks', 'layers')}": value for key, value in a_transformer(6).items()}
    fused: State = {}
    for key, value in a_transformer(7).items():
        if ".attn.q." in key:
            parts = [a_transformer(7)[key.replace(".q.", f".{part}.")] for part in "qkv"]
            fused[key.replace("attn.q", "attn.qkv")] = torch.cat(parts)
        elif ".attn." not in key:
            fused[key] = value
    save_file(state, tmp_path / "plain.safetensors")
    save_file(renamed, tmp_path / "renamed.safetensors")
    save_file(fused, tmp_path / "fused.safetensors")
    sharded = a_transformer(8)
    halves = [dict(list(sharded.items())[start::2]) for start in (0, 1)]
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (tmp_path / "s").mkdir()
    for name, half in zip(names, halves, strict=True):
        save_file(half, tmp_path / "s" / name)
    weight_map = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (tmp_path / "s" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    merged = {key: value + 0.01 if ".q." in key else value for key, value in state.items()}

    prints = {
        "renamed": fingerprint_of(a_transformer(6)),
        "fused": fingerprint_of(cast(a_transformer(7), "bfloat16")),
        "sharded": fingerprint_of(cast(sharded, "float16")),
        "merged": fingerprint_of(merged),
        "unknown": fingerprint_of(a_transformer(99)),
    }
    found = find(tmp_path, list(prints.values()))
    assert found[prints["renamed"]].files == (str(tmp_path / "renamed.safetensors"),)
    assert found[prints["fused"]].files == (str(tmp_path / "fused.safetensors"),)
    assert found[prints["sharded"]].files == tuple(str(tmp_path / "s" / name) for name in names)
    patched = found[prints["merged"]]
    assert patched.files == (str(tmp_path / "plain.safetensors"),)
    assert patched.matched < patched.compared
    assert prints["unknown"] not in found


@pytest.mark.slow
def test_a_gguf_model_in_three_files_is_one(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    state = a_transformer(5)
    writer = gguf.GGUFWriter(tmp_path / "my-llm-bf16.gguf", "llama", split_max_tensors=20)
    for key, value in state.items():
        writer.add_tensor(key, value.numpy())
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()
    shards = tuple(f"{tmp_path}/my-llm-bf16-0000{number}-of-00003.gguf" for number in (1, 2, 3))
    fingerprint = fingerprint_of(cast(state, "bfloat16"))
    assert find(tmp_path, [fingerprint]) == {fingerprint: ValuesMatch(shards, (), TENSORS, TENSORS)}
    (tmp_path / "my-llm-bf16-00002-of-00003.gguf").unlink()
    assert find(tmp_path, [fingerprint]) == {}  # a part of it is no model


@pytest.mark.slow
def test_a_second_start_compares_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    models.mkdir()
    state = a_transformer()
    save_file(state, models / "a.safetensors")
    wait_until_settled(models)
    fingerprint = fingerprint_of(state)
    first = find(models, [fingerprint], Cache(tmp_path / "cache" / "c.sqlite"))
    monkeypatch.setattr(HeaderWorker, "compare", lambda *_: pytest.fail("compared"))
    monkeypatch.setattr(HeaderWorker, "read", lambda *_: pytest.fail("read"))
    assert find(models, [fingerprint], Cache(tmp_path / "cache" / "c.sqlite")) == first != {}


class CutShort(HeaderWorker):
    """Answers so often, then no more until it is closed: a run whose time is over, whatever the machine can do in a second."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self._answers = answers
        self.read_paths: list[str] = []
        self.compared: list[tuple[int, tuple[str, ...]]] = []
        self.is_over = threading.Event()
        self.asked_in_vain = 0
        self._is_closed = threading.Event()

    def read(self, path: str, suffix: str | None, wanted: Sequence[Wanted] = ()) -> FileRead:
        self._answer()
        found = super().read(path, suffix, wanted)
        self.read_paths.append(path)
        return found

    def compare(self, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None) -> Sequence[Match | None]:
        self._answer()
        matches = super().compare(wanted, paths, suffix)
        self.compared.append((len(wanted), tuple(paths)))
        return matches

    def _answer(self) -> None:
        if self._answers == 0:
            self.is_over.set()
            self.asked_in_vain += 1
            assert self._is_closed.wait(WITHIN_SECONDS)
            raise NoWorkerError("stopped")
        self._answers -= 1

    def close(self) -> None:
        self._is_closed.set()
        super().close()


def a_run_cut_short(directory: Path, fingerprints: Sequence[Fingerprint], cache: Path, reader: CutShort) -> CatalogueState:
    """What is known when the reader has done what it may, or all that there is to do."""
    catalogue = Catalogue([directory], on_change=lambda: None, reader=reader, cache=Cache(cache))
    catalogue.find_files_of(fingerprints)
    catalogue.start()
    wait_until(lambda: reader.is_over.is_set() or len(catalogue.state().values) == len(fingerprints), WITHIN_SECONDS)
    catalogue.stop()
    for thread in threading.enumerate():
        if thread.name.startswith("gpumodels-catalogue"):
            thread.join(WITHIN_SECONDS)
            assert not thread.is_alive()
    return catalogue.state()


@pytest.mark.slow
def test_runs_that_are_cut_short_go_on_where_the_last_one_stopped_until_all_are_named(
    family: tuple[Path, dict[str, State]], tmp_path: Path
) -> None:
    directory, states = family
    wait_until_settled(directory)
    own = {fingerprint_of(cast(state, "bfloat16")): str(directory / f"{name}.safetensors") for name, state in states.items()}
    read: list[str] = []
    for run in range(4):
        reader = CutShort(20)
        state = a_run_cut_short(directory, list(own), tmp_path / "cache" / "c.sqlite", reader)
        read += reader.read_paths
        is_last = run == 3
        assert reader.compared == []  # what a header's reading brings along is kept: no file is opened twice
        assert reader.asked_in_vain == (not is_last)  # nothing goes on when the time is over
        assert len(read) == len(set(read)) == min(20 * (run + 1), len(own))
        assert state.unsettled == (frozenset() if is_last else own.keys())
        assert {one: verdict.files for one, verdict in state.values.items()} == (
            {one: (path,) for one, path in own.items()} if is_last else {}
        )


@pytest.mark.slow
def test_models_that_come_when_all_headers_are_known_are_compared_file_by_file_and_so_in_several_runs(
    family: tuple[Path, dict[str, State]], tmp_path: Path
) -> None:
    directory, states = family
    wait_until_settled(directory)
    cache = tmp_path / "cache" / "c.sqlite"
    assert find(directory, [], Cache(cache)) == {}
    own = {fingerprint_of(cast(state, "bfloat16")): str(directory / f"{name}.safetensors") for name, state in states.items()}
    compared: list[tuple[int, tuple[str, ...]]] = []
    for _ in range(4):
        reader = CutShort(20)
        state = a_run_cut_short(directory, list(own), cache, reader)
        assert reader.read_paths == []
        compared += reader.compared
    assert sorted(compared) == sorted((len(own), (path,)) for path in own.values())  # each file once, with all models at once
    assert {one: verdict.files for one, verdict in state.values.items()} == {one: (path,) for one, path in own.items()}


@pytest.mark.slow
def test_without_a_worker_nothing_is_said_of_a_models_file_until_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(HeaderWorker):
        failed = threading.Event()
        may_go_on = threading.Event()

        def compare(self, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None) -> Sequence[Match | None]:
            if not self.may_go_on.is_set():
                self.failed.set()
                raise NoWorkerError("no process for it")
            return super().compare(wanted, paths, suffix)

    monkeypatch.setattr("gpumodels_tui.catalogue.reading.AGAIN_SECONDS", 0.05)
    (tmp_path / "models").mkdir()
    state = a_transformer()
    save_file(state, tmp_path / "models" / "a.safetensors")
    wait_until_settled(tmp_path / "models")
    assert find(tmp_path / "models", [], Cache(tmp_path / "c" / "c.sqlite")) == {}
    fingerprint, reader = fingerprint_of(state), Failing()
    catalogue = Catalogue([tmp_path / "models"], reader=reader, cache=Cache(tmp_path / "c" / "c.sqlite"))
    catalogue.find_files_of([fingerprint])
    catalogue.start()
    try:
        assert reader.failed.wait(WITHIN_SECONDS)
        wait_until(lambda: catalogue.state().warnings == ("no process for it",), WITHIN_SECONDS)
        assert (catalogue.state().values, catalogue.state().unsettled) == ({}, frozenset((fingerprint,)))
        reader.may_go_on.set()
        wait_until(lambda: fingerprint in catalogue.state().values, WITHIN_SECONDS)
        assert (catalogue.state().warnings, catalogue.state().unsettled) == ((), frozenset())
    finally:
        catalogue.stop()


@pytest.mark.slow
def test_a_file_that_comes_later_makes_a_tie(tmp_path: Path) -> None:
    state = a_transformer()
    save_file(state, tmp_path / "a.safetensors")
    save_file(state, tmp_path / "copy")
    fingerprint = fingerprint_of(state)
    catalogue = Catalogue([tmp_path])
    catalogue.start()
    catalogue.find_files_of([fingerprint])

    def wait_for(holds: Callable[[CatalogueState], bool]) -> None:
        wait_until(lambda: holds(catalogue.state()), WITHIN_SECONDS)

    try:
        wait_for(lambda state: fingerprint in state.values and bool(state.values[fingerprint].files))
        (tmp_path / "copy").rename(tmp_path / "b.safetensors")
        wait_for(lambda state: len(state.values[fingerprint].candidates) == 2)
        (tmp_path / "a.safetensors").unlink()
        wait_for(lambda state: state.values[fingerprint].files == (str(tmp_path / "b.safetensors"),))
    finally:
        catalogue.stop()
