"""A model whose file nobody saw being read: its process says what values it holds, and the viewer finds the file."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import TensorSample
from gpumodels_tui import cli
from gpumodels_tui.headers.header_reader import FileRead, HeaderWorker
from gpumodels_tui.headers.headers import Wanted
from hosts import a_host

SETUP = """
import gpumodels
gpumodels.start()
import json, struct, torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(96, 96) for _ in range(24))

def load(path, dtype, kind=Net):
    with open(path, "rb") as file:  # by a way that no wrapper sees
        content = file.read()
    length, = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + length])
    net = kind()
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            begin, end = header[key]["data_offsets"]
            raw = bytearray(content[8 + length + begin:8 + length + end])
            parameter.copy_(torch.frombuffer(raw, dtype=torch.float32).view(parameter.shape))
    return net.to(dtype)
"""


def write_tune(path: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    state = {f"blocks.{block}.weight": torch.randn(96, 96, generator=generator) for block in range(24)}
    save_file({**state, **{f"blocks.{block}.bias": torch.randn(96, generator=generator) for block in range(24)}}, path)


def models_seen(directory: Path, models: Path | None) -> list[dict[str, object]]:
    chosen = [] if models is None else ["--models", str(models)]
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert cli.main(["--dir", str(directory), *chosen, "--json"]) == 0
    return list(json.loads(printed.getvalue())["processes"][0]["models"])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_fine_tune_read_byte_by_byte_is_named_by_its_values(tmp_path: Path, dtype: str) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for seed in range(4):
        write_tune(models / f"tune-{seed}.safetensors", seed)
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.tell(f"net = load({str(models / 'tune-2.safetensors')!r}, torch.{dtype})")
        host.models_when(lambda found: any(model.class_name == "Net" and model.fingerprint for model in found))
        (seen,) = models_seen(tmp_path / "gpm", models)
    assert (seen["name"], seen["name_source"], seen["confidence"]) == ("tune-2", "values", 0.97)
    assert seen["files"] == [str(models / "tune-2.safetensors")]


def test_a_model_that_was_never_in_a_file_has_its_classes_name(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_tune(models / "tune.safetensors", 1)
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.tell("net = Net()")
        host.models_when(lambda found: any(model.class_name == "Net" and model.fingerprint for model in found))
        host.tell(f"from safetensors.torch import save_file; save_file(net.state_dict(), {str(models / 'saved.safetensors')!r})")
        (seen,) = models_seen(tmp_path / "gpm", models)
    assert (seen["name"], seen["confidence"], seen["files"]) == ("Net", 0.0, [])


def test_a_model_that_is_saved_as_soon_as_it_is_built_has_not_its_own_files_name(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.tell(f"""
from safetensors.torch import save_file
net = Net()
save_file(net.state_dict(), {str(models / "saved.safetensors")!r})
""")
        host.models_when(lambda found: any(model.class_name == "Net" and model.fingerprint for model in found))
        (seen,) = models_seen(tmp_path / "gpm", models)
    assert (seen["name"], seen["confidence"], seen["files"]) == ("Net", 0.0, [])


def from_the_flag(place: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path | None]:
    return place / "any" / "tune-2.safetensors", place


def from_the_environment(place: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path | None]:
    patch.setenv("GPUMODELS_MODELS", f"/nowhere{os.pathsep}{place}")
    return place / "tune-2.safetensors", None


def from_the_configuration(place: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path | None]:
    patch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    (place / "config" / "gpumodels").mkdir(parents=True)
    (place / "config" / "gpumodels" / "config.toml").write_text(f"models = [{str(place / 'models')!r}]")
    return place / "models" / "tune-2.safetensors", None


def from_the_hub_cache(place: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path | None]:
    patch.setenv("HF_HUB_CACHE", str(place))
    return place / "models--org--tune-2" / "snapshots" / "r1" / "model.safetensors", None


def from_comfyui(place: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path | None]:
    patch.setenv("HOME", str(place))
    root = place / "ComfyUI"
    (root / "comfy").mkdir(parents=True)
    for name in ("main.py", "folder_paths.py"):
        (root / name).touch()
    (root / "extra_model_paths.yaml").write_text(f"mine:\n  base_path: {place}/elsewhere\n  loras: more\n")
    return root / "models" / "diffusion_models" / "tune-2.safetensors", None


def from_comfyuis_extra_paths(place: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path | None]:
    from_comfyui(place, patch)
    return place / "elsewhere" / "more" / "tune-2.safetensors", None


@pytest.mark.parametrize(
    "source",
    [from_the_flag, from_the_environment, from_the_configuration, from_the_hub_cache, from_comfyui, from_comfyuis_extra_paths],
)
def test_a_models_file_is_found_in_each_of_the_places_that_are_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Callable[[Path, pytest.MonkeyPatch], tuple[Path, Path | None]]
) -> None:
    path, flag = source(tmp_path / "place", monkeypatch)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tune(path, 2)
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.tell(f"net = load({str(path)!r}, torch.float32)")
        host.models_when(lambda found: any(model.class_name == "Net" and model.fingerprint for model in found))
        (seen,) = models_seen(tmp_path / "gpm", flag)
    assert (seen["name"], seen["files"]) == ("org/tune-2" if "models--" in str(path) else "tune-2", [str(path)])


def test_a_models_file_is_found_beside_one_that_a_snapshot_names(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for seed in range(3):
        write_tune(models / f"tune-{seed}.safetensors", seed)
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.tell(f"""
from safetensors.torch import load_file
class Other(Net): pass
other = Other()
other.load_state_dict(load_file({str(models / "tune-1.safetensors")!r}))
net = load({str(models / "tune-2.safetensors")!r}, torch.float32)
""")
        host.models_when(lambda found: {model.name for model in found} == {"tune-1", "Net"})
        seen = models_seen(tmp_path / "gpm", None)
    assert sorted(str(model["name"]) for model in seen) == ["tune-1", "tune-2"]


TUNES = 61

Pair = tuple[tuple[TensorSample, ...], tuple[str, ...]]
"""Values, and the files that they were compared with."""


class Asked:
    """What the worker was asked, and answered."""

    def __init__(self) -> None:
        self.files: list[tuple[str, ...]] = []
        """Opened, and their headers parsed."""
        self.pairs: list[Pair] = []


LOAD_ALL = """
kept = []
for number in range({count}):
    Tune = type(f"Net{{number:02}}", (Net,), {{}})
    kept.append(load(f"{models}/tune-{{number:02}}.safetensors", {dtype}, Tune))
"""


def write_family(models: Path, near: int = 0) -> None:
    """A base and its fine-tunes: perturbed copies, the last of them so near that eight bits can't hold the difference."""
    generator = torch.Generator().manual_seed(7)
    base = {f"blocks.{block}.weight": torch.randn(96, 96, generator=generator) * 0.05 for block in range(24)}
    base.update({f"blocks.{block}.bias": torch.randn(96, generator=generator) for block in range(24)})
    for number in range(TUNES):
        strength = 1e-6 if number >= TUNES - near else 1e-3
        state = {key: value + strength * torch.randn(value.shape, generator=generator) for key, value in base.items()}
        save_file(state if number else base, models / f"tune-{number:02}.safetensors")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What is read and compared, for as long as it takes: how far a look gets in its two seconds is the machine's affair."""
    asked = Asked()
    read, compare = HeaderWorker.read, HeaderWorker.compare

    def count(wanted: Sequence[Wanted], paths: Sequence[str], matches: Sequence[Match | None]) -> None:
        asked.files.append(tuple(paths))
        asked.pairs.extend((one.fingerprint.samples, tuple(paths)) for one, match in zip(wanted, matches, strict=False) if match)

    def reading(self: HeaderWorker, path: str, suffix: str | None, wanted: Sequence[Wanted] = ()) -> FileRead:
        found = read(self, path, suffix, wanted)
        count(wanted, [path], found.matches)
        return found

    def comparing(
        self: HeaderWorker, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None
    ) -> Sequence[Match | None]:
        matches = compare(self, wanted, paths, suffix)
        count(wanted, paths, matches)
        return matches

    monkeypatch.setattr(HeaderWorker, "read", reading)
    monkeypatch.setattr(HeaderWorker, "compare", comparing)
    monkeypatch.setattr("gpumodels_tui.oneshot.MODEL_FILES_SECONDS", 200.0)
    return asked


def names_of_all(tmp_path: Path, models: Path, dtype: str, asked: Asked) -> dict[str, dict[str, object]]:
    """What the viewer says of each, by the number of its file, when all was compared, once; a second look opens no file."""
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.tell(LOAD_ALL.format(count=TUNES, models=models, dtype=f"torch.{dtype}"))
        found = host.models_when(lambda found: sum(model.fingerprint is not None for model in found) == TUNES)
        values = {model.fingerprint.samples for model in found if model.fingerprint is not None}
        seen = {str(model["class"]).removeprefix("Net"): model for model in models_seen(tmp_path / "gpm", models)}
        assert len(seen) == TUNES
        assert len(asked.files) == len(set(asked.files)) == TUNES
        assert len(set(asked.pairs)) == len(values) * TUNES
        again = {str(model["class"]).removeprefix("Net"): model for model in models_seen(tmp_path / "gpm", models)}
        assert len(asked.files) == TUNES
    naming = ("name", "files", "candidates", "confidence", "name_source")
    assert [[one[word] for word in naming] for one in again.values()] == [
        [seen[number][word] for word in naming] for number in again
    ]
    return seen


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_each_of_61_fine_tunes_has_its_own_name_in_the_viewer(tmp_path: Path, dtype: str, asked: Asked) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_family(models)
    seen = names_of_all(tmp_path, models, dtype, asked)
    right = [number for number, model in seen.items() if model["files"] == [f"{models}/tune-{number}.safetensors"]]
    assert len(right) == TUNES, sorted(seen.keys() - right)
    assert all(model["name"] == f"tune-{number}" and model["confidence"] == 0.97 for number, model in seen.items())


def test_what_eight_bits_cannot_tell_apart_is_a_tie_in_the_viewer_and_the_others_are_right(tmp_path: Path, asked: Asked) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_family(models, near=8)
    seen = names_of_all(tmp_path, models, "float8_e4m3fn", asked)
    near = {"00", *(f"{number:02}" for number in range(TUNES - 8, TUNES))}
    for number, model in seen.items():
        own = f"{models}/tune-{number}.safetensors"
        if number in near:
            assert (model["name"], model["confidence"], model["files"]) == (f"Net{number}", 0.0, [])
            assert own in model["candidates"]  # type: ignore[operator]
        else:
            assert (model["name"], model["files"]) == (f"tune-{number}", [own])
    assert len(seen) == TUNES
