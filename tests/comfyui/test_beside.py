"""A real ComfyUI with the node pack is the one without it: the same pictures, the same log, the same time."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from comfy_server import PACKAGES, PAIRS, ComfyServer, ComfyUI, Nodes, a_comfy_server, needs, the_comfyui
from gpumodels.comfyui_pack.pack_copies import PACK_NAME

pytestmark = [pytest.mark.timeout(900), needs()]

ROUNDS = 10
CHECKPOINTS = ("dreamshaper_8.safetensors", "v1-5-pruned-emaonly-fp16.safetensors")


def comfyui() -> ComfyUI:
    found = the_comfyui()
    assert found is not None
    return found


def with_the_pack(directory: Path) -> Path:
    """A base directory into which the command has put the pack; `a_comfy_server` adds the rest."""
    for name in ("custom_nodes", "input"):
        (directory / "base" / name).mkdir(parents=True)
    asked = [sys.executable, "-m", "gpumodels", "comfyui", "install", "--python", comfyui().python]
    subprocess.run([*asked, str(directory / "base" / "custom_nodes")], check=True, stdout=subprocess.PIPE)
    return directory


class Servers(NamedTuple):
    without: ComfyServer
    beside: ComfyServer
    folders: tuple[Path, Path]


@pytest.fixture(scope="module")
def servers(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    plain, other = tmp_path_factory.mktemp("without"), with_the_pack(tmp_path_factory.mktemp("with"))
    with (
        a_comfy_server(comfyui(), plain, models, runs_sidecar=False, packs=(), interval_seconds=1) as without,
        a_comfy_server(comfyui(), other, models, runs_sidecar=False, packs=(), interval_seconds=1) as beside,
    ):
        yield Servers(without, beside, (plain, other))


def a_picture(seed: int, checkpoint: str) -> Nodes:
    """A picture of a LoRA on a checkpoint, from loading to the file."""
    nodes: Nodes = {
        "loader": ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        "lora": (
            "LoraLoader",
            {
                "model": ("loader", 0), "clip": ("loader", 1), "lora_name": "more_details.safetensors",
                "strength_model": 1.0, "strength_clip": 1.0,
            },
        ),
        "latent": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "text": ("CLIPTextEncode", {"text": "a lake", "clip": ("lora", 1)}),
    }  # fmt: skip
    sampler = {"seed": seed, "steps": 4, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ("lora", 0), "positive": ("text", 0), "negative": ("text", 0), "latent_image": ("latent", 0)}
    nodes["sampled"] = ("KSampler", {**links, **sampler})
    nodes["decoded"] = ("VAEDecode", {"samples": ("sampled", 0), "vae": ("loader", 2)})
    nodes["saved"] = ("SaveImage", {"images": ("decoded", 0), "filename_prefix": "a_picture"})
    return nodes


def pictures(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "base" / "output").glob("*.png")}


def test_the_sidecar_is_there_where_the_pack_is(servers: Servers) -> None:
    assert (servers.without.has_sidecar(), servers.beside.has_sidecar()) == (False, True)


@pytest.mark.parametrize("what", ["sampling", "loading another checkpoint and sampling"])
def test_pictures_are_the_same_and_take_as_long(what: str, servers: Servers) -> None:
    both = (servers.without, servers.beside)
    pairs: list[tuple[float, float]] = []
    worked: list[tuple[float, float]] = []
    for number in range(ROUNDS + 2):
        nodes = a_picture(number, CHECKPOINTS[number % 2 if "loading" in what else 0])
        before = [server.processor_seconds() for server in both]
        for server in both if number % 2 else reversed(both):
            server.prompt(nodes)
        assert servers.without.outputs == servers.beside.outputs
        pairs.append((servers.without.prompt_seconds, servers.beside.prompt_seconds))
        since, since_beside = (server.processor_seconds() - then for server, then in zip(both, before, strict=True))
        worked.append((since, since_beside))
    PAIRS[what] = pairs[2:]  # the first two warm up
    PAIRS[f"{what}, processor time"] = worked[2:]
    made, made_beside = (pictures(folder) for folder in servers.folders)
    assert len(made) >= ROUNDS
    assert made == made_beside


def lines(log: str, folder: Path) -> Counter[str]:
    """The log's lines without what differs from run to run: folders, numbers, and bars of progress."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log).replace(str(folder), "FOLDER")
    return Counter(
        re.sub(r"\d+(?:[.,:]\d+)*", "N", line) for line in plain.splitlines() if "it/s" not in line and "s/it" not in line
    )


def test_the_log_is_the_same_but_for_the_lines_that_list_the_pack(servers: Servers) -> None:
    for server in servers[:2]:
        assert isinstance(server, ComfyServer)
        server.prompt(a_picture(1, CHECKPOINTS[0]))
        server.free()
    without, beside = (
        lines(server.log(), folder) for server, folder in zip((servers.without, servers.beside), servers.folders, strict=True)
    )
    listed = f"[INFO]    N seconds: FOLDER/base/custom_nodes/{PACK_NAME}"
    assert without - beside == Counter()
    more = beside - without
    assert more[listed] == 2
    assert {line for line in more if line.removeprefix("[INFO]").strip()} == {listed, "Prestartup times for custom nodes:"}


BROKEN = {
    "missing": (None, "gpumodels is not installed in ComfyUI's Python"),
    "too old": ("__version__ = '0.0.1'", "gpumodels 0.0.1 is too old for its node pack"),
    "broken": ("import msgpack\nmsgpack.nothing", "gpumodels is broken in ComfyUI's Python: AttributeError: "),
}


@pytest.mark.parametrize("trouble", [None, *BROKEN])
def test_the_pack_starts_in_no_time_and_what_is_wrong_with_gpumodels_is_one_line(
    trouble: str | None, models: Path, tmp_path: Path
) -> None:
    source, said = BROKEN[trouble] if trouble is not None else (None, None)
    packages = tmp_path / "packages"
    packages.mkdir()
    if source is not None:
        (packages / "gpumodels.py").write_text(source)
    directory = with_the_pack(tmp_path / "with a space")
    found = PACKAGES if trouble is None else [str(packages)]
    with a_comfy_server(comfyui(), directory, models, runs_sidecar=False, packages=found, packs=()) as server:
        log = re.sub(r"\x1b\[[0-9;]*m", "", server.log())
        assert server.has_sidecar() == (trouble is None)
        asked = [sys.executable, "-m", "gpumodels", "comfyui", "status", str(directory / "base")]
        status = subprocess.run(asked, check=False, capture_output=True, text=True)
        described = f"running    process {server.pid}, with{'' if trouble is None else 'out'} the sidecar"
        assert described in status.stdout
        assert f"Python     {comfyui().python} " in status.stdout
    imported = log.partition("Import times for custom nodes:")[2]
    assert f"   0.0 seconds: {directory}/base/custom_nodes/{PACK_NAME}\n" in imported
    spoken = [line for line in log.splitlines() if "gpumodels" in line and " seconds: " not in line]
    assert len(spoken) == (0 if trouble is None else 1), spoken
    assert said is None or said in spoken[0]
    assert not any(word in log for word in ("(PRESTARTUP FAILED)", "(IMPORT FAILED)"))
