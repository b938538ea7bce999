"""The rows of a real ComfyUI: its loaders and those of node packs, from workflows that its server runs.

Written for ComfyUI 0.33, WanVideoWrapper of February 2026, ComfyUI-GGUF and KJNodes, on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from comfy_server import (
    GGUF_PACK,
    KJ_PACK,
    TABLE,
    WAN_PACK,
    ComfyServer,
    Nodes,
    ShownRow,
    a_comfy_server,
    needs,
    the_comfyui,
)
from gpumodels_shared.schema import Model

pytestmark = [pytest.mark.timeout(900), needs()]

RECHECK_SECONDS = 100.0
"""Values that change in place raise no event, and comparing them again waits for the budget, which earlier tests have used up."""
HIGH = "Wan2_2-T2V-A14B-HIGH_bf16.safetensors"
LOW = "Wan2_2-T2V-A14B-LOW_fp16.safetensors"
FP8 = "Wan2_1-T2V-1_3B_fp8_e4m3fn.safetensors"
SCALED = "Wan2_1-T2V-14B_fp8_e4m3fn_scaled_KJ.safetensors"
QUANTIZED = "Wan2.1-Fun-1.3B-Q8_0.gguf"
UPSCALER = "4x-UltraSharp.safetensors"
DREAMSHAPER = "dreamshaper_8.safetensors"
SD15 = "v1-5-pruned-emaonly-fp16.safetensors"
FAST, FILM = "lightx2v_rank8.safetensors", "film-look.safetensors"


def running(models: Path, directory: Path, *arguments: str) -> AbstractContextManager[ComfyServer]:
    comfyui = the_comfyui()
    assert comfyui is not None
    return a_comfy_server(comfyui, directory, models, arguments)


@pytest.fixture(scope="module")
def first_server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    with running(models, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def second_server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    with running(models, tmp_path_factory.mktemp("copying"), "--disable-mmap") as server:
        yield server


def end_without_models(server: ComfyServer) -> None:
    """ComfyUI may do as `free` says after the next workflow only, so it isn't asked where there is nothing to free."""
    if server.models():
        server.free()
        assert server.models_when(lambda models: not models) == ()


@pytest.fixture
def server(first_server: ComfyServer) -> Iterator[ComfyServer]:
    """Each test begins without models."""
    yield first_server
    end_without_models(first_server)


@pytest.fixture
def copying_server(second_server: ComfyServer) -> Iterator[ComfyServer]:
    """The same where files are copied instead of mapped."""
    yield second_server
    end_without_models(second_server)


def truth(label: str, node: str, output: int = 0) -> Nodes:
    """Notes what a node's output holds."""
    return {f"truth of {label}": ("GpumodelsTruth", {"source": (node, output), "label": label})}


def a_checkpoint(name: str) -> Nodes:
    loader: Nodes = {"loader": ("CheckpointLoaderSimple", {"ckpt_name": name})}
    return loader | truth("checkpoint", "loader", 0) | truth("clip", "loader", 1) | truth("vae", "loader", 2)


def rows(server: ComfyServer, nodes: Nodes, count: int) -> dict[str, Model]:
    """Run this; its models by kind."""
    server.prompt(nodes)
    models = server.models_when(lambda models: len(models) == count)
    assert len(models) == count, [model.name for model in models]
    return {model.kind: model for model in models}


def files_of(model: Model) -> list[str]:
    return [Path(path).name for path in model.files]


def note(server: ComfyServer, loader: str, *models: Model, truth: int | None = None) -> None:
    """Put these rows, which are true now, into the table at the end. The truth of a LoRA's parts is what is in its file."""
    for model in models:
        held = sum(tensor_bytes(Path(path)) for path in model.files) if model.kind == "lora" else truth
        TABLE.append(ShownRow(loader, model, held, server.seconds_until_bytes, server.seconds_until_true))


def tensor_bytes(path: Path) -> int:
    """Of a safetensors file: all but its header."""
    with path.open("rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def assert_becomes(server: ComfyServer, loader: str, model: Model, file: str, name: str, size_bytes: int | None = None) -> None:
    """It is named by its file alone, with the bytes that it holds, at the latest half a minute after it was loaded."""

    def is_right(one: Model) -> bool:
        # ComfyUI's own models have schedules of some hundred bytes beside their weights.
        is_exact = size_bytes is None or 0 <= one.resident_bytes - size_bytes <= 4096
        return is_exact and (one.name, files_of(one), one.candidates) == (name, [file], ()) and one.confidence >= 0.95

    models = server.models_when(lambda models: any(one.id == model.id and is_right(one) for one in models))
    (found,) = [one for one in models if one.id == model.id]
    assert is_right(found), (found.name, found.confidence, found.files, found.candidates, found.resident_bytes, size_bytes)
    note(server, loader, found, truth=size_bytes if size_bytes is not None else server.truth.get("wan"))


def test_merged_checkpoints_are_called_by_both_once_they_are_used(server: ComfyServer) -> None:
    nodes: Nodes = {
        "one": ("CheckpointLoaderSimple", {"ckpt_name": DREAMSHAPER}),
        "other": ("CheckpointLoaderSimple", {"ckpt_name": SD15}),
        "merged": ("ModelMergeSimple", {"model1": ("one", 0), "model2": ("other", 0), "ratio": 0.5}),
        "latent": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "text": ("CLIPTextEncode", {"text": "a lake", "clip": ("one", 1)}),
    }
    sampler = {"seed": 1, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ("merged", 0), "positive": ("text", 0), "negative": ("text", 0), "latent_image": ("latent", 0)}
    nodes |= {"sampled": ("KSampler", {**links, **sampler}), "shown": ("PreviewAny", {"source": ("sampled", 0)})}
    server.prompt(nodes)
    expected = {"merged of dreamshaper_8 (168 of 168 tensors) and v1-5", "v1-5"}

    def names(models: Sequence[Model]) -> set[str]:
        return {model.name for model in models if model.kind == "checkpoint"}

    models = server.models_when(lambda models: names(models) == expected, RECHECK_SECONDS)
    assert names(models) == expected
    sizes = {model.name: model.resident_bytes for model in models if model.kind == "checkpoint"}
    replaced = sum(sizes.values()) - 2 * sizes["v1-5"]  # by the merged weights, and kept by the patcher until it is unloaded
    assert abs(replaced - sizes["v1-5"]) <= 8192
    note(server, "ModelMergeSimple and KSampler", *(model for model in models if model.name.startswith("merged")))


def test_merged_text_encoders_are_called_by_both(server: ComfyServer) -> None:
    nodes: Nodes = {
        "one": ("CheckpointLoaderSimple", {"ckpt_name": DREAMSHAPER}),
        "other": ("CheckpointLoaderSimple", {"ckpt_name": SD15}),
        "merged": ("CLIPMergeSimple", {"clip1": ("one", 1), "clip2": ("other", 1), "ratio": 0.5}),
        "text": ("CLIPTextEncode", {"text": "a lake", "clip": ("merged", 0)}),
        "shown": ("PreviewAny", {"source": ("text", 0)}),
    }
    server.prompt(nodes)

    def names(models: Sequence[Model]) -> set[str]:
        return {model.name for model in models if model.kind == "clip"}

    expected = {"merged of dreamshaper_8 (197 of 198 tensors) and v1-5", "v1-5"}
    models = server.models_when(lambda models: names(models) == expected, RECHECK_SECONDS)
    assert names(models) == expected
    note(server, "CLIPMergeSimple and CLIPTextEncode", *(model for model in models if model.name.startswith("merged")))


def test_a_checkpoint_is_three_models_and_its_successor_takes_their_place(server: ComfyServer) -> None:
    for turn, (file, name) in enumerate(((DREAMSHAPER, "dreamshaper_8"), (SD15, "v1-5"))):
        server.prompt(a_checkpoint(file))
        # Not those of the checkpoint before, which are published until the next tick.
        models = server.models_when(lambda models: [files_of(model) for model in models] == [[file]] * 3)  # noqa: B023
        found = {model.kind: model for model in models}
        assert set(found) == {"checkpoint", "clip", "vae"}
        for kind, model in found.items():
            loader = "CheckpointLoaderSimple" if turn == 0 else "CheckpointLoaderSimple, a second one in its place"
            assert_becomes(server, loader, model, file, name, server.truth[kind])


def test_freed_models_have_no_row(server: ComfyServer) -> None:
    rows(server, a_checkpoint(DREAMSHAPER), 3)
    server.free()
    assert server.models_when(lambda models: not models) == ()
    seconds = server.seconds_until_true
    TABLE.append(ShownRow("/free with unload_models and free_memory", None, 0, seconds, seconds))


LOADERS = pytest.mark.parametrize(
    ("loader", "inputs", "kind", "file", "name"),
    [
        ("UNETLoader", {"unet_name": FP8, "weight_dtype": "default"}, "checkpoint", FP8, "Wan2_1-T2V-1_3B"),
        (
            "CLIPLoader",
            {"clip_name": "clip_l.safetensors", "type": "stable_diffusion"},
            "clip",
            "clip_l.safetensors",
            "clip_l",
        ),
        ("VAELoader", {"vae_name": "Wan2_1_VAE_bf16.safetensors"}, "vae", "Wan2_1_VAE_bf16.safetensors", "Wan2_1_VAE"),
        (
            "ControlNetLoader",
            {"control_net_name": "control_v11p_sd15_canny.safetensors"},
            "controlnet",
            "control_v11p_sd15_canny.safetensors",
            "control_v11p_sd15_canny",
        ),
        ("UpscaleModelLoader", {"model_name": UPSCALER}, "upscaler", UPSCALER, "4x-UltraSharp"),
        pytest.param(
            "UnetLoaderGGUF", {"unet_name": QUANTIZED}, "checkpoint", QUANTIZED, "Wan2.1-Fun-1.3B", marks=needs(GGUF_PACK)
        ),
        pytest.param(
            "DiffusionModelLoaderKJ",
            {
                "model_name": HIGH, "weight_dtype": "default", "compute_dtype": "default", "patch_cublaslinear": False,
                "sage_attention": "disabled", "enable_fp16_accumulation": False,
            },
            "checkpoint",
            HIGH,
            "Wan2_2-T2V-A14B-HIGH",
            marks=needs(KJ_PACK),
        ),
    ],
)  # fmt: skip


@LOADERS
def test_a_loaders_model_is_one_row(
    server: ComfyServer, loader: str, inputs: Mapping[str, Any], kind: str, file: str, name: str
) -> None:
    nodes: Nodes = {"loader": (loader, inputs)}
    found = rows(server, nodes | truth("model", "loader"), 1)
    assert set(found) == {kind}
    assert_becomes(server, loader, found[kind], file, name, server.truth["model"])
    assert file != QUANTIZED or max(found[kind].dtypes, key=found[kind].dtypes.__getitem__) == "Q8_0"


@LOADERS
def test_a_loaders_model_is_one_row_where_files_are_copied_instead_of_mapped(
    copying_server: ComfyServer, loader: str, inputs: Mapping[str, Any], kind: str, file: str, name: str
) -> None:
    nodes: Nodes = {"loader": (loader, inputs)}
    found = rows(copying_server, nodes | truth("model", "loader"), 1)
    assert set(found) == {kind}
    assert_becomes(copying_server, f"{loader}, --disable-mmap", found[kind], file, name, copying_server.truth["model"])


def test_stacked_loras_are_rows_by_their_files_names(server: ComfyServer) -> None:
    assert_stacked_loras_have_rows(server, "two stacked LoraLoaders", 0.99)


def test_stacked_loras_are_rows_where_files_are_copied_instead_of_mapped(copying_server: ComfyServer) -> None:
    assert_stacked_loras_have_rows(copying_server, "two stacked LoraLoaders, --disable-mmap", 0.95)


def assert_stacked_loras_have_rows(server: ComfyServer, loader: str, confidence: float) -> None:
    nodes = a_checkpoint(DREAMSHAPER)
    node = "loader"
    for lora in ("more_details", "epi_noiseoffset2"):
        strengths = {"strength_model": 1.0, "strength_clip": 1.0}
        nodes[lora] = ("LoraLoader", {"model": (node, 0), "clip": (node, 1), "lora_name": f"{lora}.safetensors", **strengths})
        node = lora
    server.prompt(nodes | truth("with LoRAs", node))
    models = server.models_when(lambda models: len(models) == 7)
    bases = {model.id: model for model in models if model.parent is None}
    assert sorted(model.kind for model in bases.values()) == ["checkpoint", "clip", "vae"]
    loras = [model for model in models if model.parent is not None]
    expected = [(kind, name) for kind in ("checkpoint", "clip") for name in ("epi_noiseoffset2", "more_details")]
    assert sorted((bases[lora.parent].kind, lora.name) for lora in loras if lora.parent is not None) == expected
    assert all(files_of(lora) == [f"{lora.name}.safetensors"] and lora.confidence == confidence for lora in loras)
    for name in ("epi_noiseoffset2", "more_details"):
        parts = [lora for lora in loras if lora.name == name]
        in_file = tensor_bytes(Path(parts[0].files[0]))  # with its alphas, which are held as numbers
        assert 0.99 * in_file < sum(part.resident_bytes for part in parts) <= in_file
    for base in bases.values():
        note(server, loader, base, *(lora for lora in loras if lora.parent == base.id), truth=server.truth[base.kind])


def a_wan(
    file: str, precision: str, loras: Sequence[str] = (), is_merged: bool = True, quantization: str = "disabled", swapped: int = 0
) -> Nodes:
    """WanVideoWrapper's loader, as far as its sampler loads."""
    nodes: Nodes = {}
    loader: dict[str, Any] = {"model": file, "base_precision": precision, "quantization": quantization}
    loader["load_device"] = "offload_device"
    previous: dict[str, Any] = {}
    for lora in loras:
        nodes[lora] = ("WanVideoLoraSelect", {"lora": lora, "strength": 1.0, "merge_loras": is_merged, **previous})
        previous, loader["lora"] = {"prev_lora": (lora, 0)}, (lora, 0)
    nodes["loader"] = ("WanVideoModelLoader", loader)
    nodes["sampler"] = ("GpumodelsWanVideoSamplerStart", {"model": ("loader", 0), "blocks_to_swap": swapped})
    return nodes | truth("wan", "sampler")


@needs(WAN_PACK)
@pytest.mark.parametrize(
    ("nodes", "file", "name"),
    [
        pytest.param(a_wan(HIGH, "bf16"), HIGH, "Wan2_2-T2V-A14B-HIGH", id="bf16"),
        pytest.param(a_wan(LOW, "fp16"), LOW, "Wan2_2-T2V-A14B-LOW", id="fp16"),
        pytest.param(a_wan(HIGH, "fp16"), HIGH, "Wan2_2-T2V-A14B-HIGH", id="bf16 as fp16"),
        pytest.param(a_wan(SCALED, "bf16"), SCALED, "Wan2_1-T2V-14B", id="fp8-scaled"),
        pytest.param(a_wan(HIGH, "bf16", quantization="fp8_e4m3fn"), HIGH, "Wan2_2-T2V-A14B-HIGH", id="bf16 as fp8"),
        pytest.param(a_wan(HIGH, "bf16", swapped=20), HIGH, "Wan2_2-T2V-A14B-HIGH", id="block swap"),
        pytest.param(a_wan(QUANTIZED, "bf16"), QUANTIZED, "Wan2.1-Fun-1.3B", id="GGUF"),
    ],
)
def test_wanvideowrappers_model_is_one_row(
    server: ComfyServer, nodes: Nodes, file: str, name: str, request: pytest.FixtureRequest
) -> None:
    """Its bytes are those of its modules, and of the state dict that it keeps mapped."""
    (model,) = rows(server, nodes, 1).values()
    assert_becomes(server, f"WanVideoModelLoader, {request.node.callspec.id}", model, file, name)
    assert model.kind == "checkpoint"
    assert model.resident_bytes >= server.truth["wan"]
    assert model.offloaded_bytes == 0


@needs(WAN_PACK)
@pytest.mark.parametrize("loras", [[FAST], [FILM], [FAST, FILM]], ids=["of its dtype", "of another dtype", "both"])
@pytest.mark.parametrize("file", [HIGH, SCALED])
def test_wanvideowrappers_unmerged_loras_have_rows_of_their_own(
    server: ComfyServer, file: str, loras: list[str], request: pytest.FixtureRequest
) -> None:
    server.prompt(a_wan(file, "bf16", loras, is_merged=False))

    def is_complete(model: Model) -> bool:
        if model.kind != "lora":
            return model.resident_bytes >= server.truth["wan"]
        return model.resident_bytes + model.shared_bytes > 0.99 * sum(tensor_bytes(Path(path)) for path in model.files) > 0

    models = server.models_when(lambda models: len(models) == 1 + len(loras) and all(is_complete(model) for model in models))
    assert all(is_complete(model) for model in models), [
        (model.name, model.resident_bytes, model.shared_bytes) for model in models
    ]
    (base,) = [model for model in models if model.parent is None]
    assert files_of(base) == [file]
    assert "modelspec.title" not in base.metadata
    assert {model.name: files_of(model) for model in models if model.parent == base.id} == {
        lora.removesuffix(".safetensors"): [lora] for lora in loras
    }
    how = request.node.callspec.id.partition(".safetensors-")[2]
    note(server, f"WanVideoLoraSelect, not merged, {how}", *models, truth=server.truth["wan"])


@needs(WAN_PACK)
@pytest.mark.parametrize("loras", [[FAST], [FAST, FILM]], ids=["one", "two"])
def test_loras_that_wanvideowrapper_merged_have_no_row(server: ComfyServer, loras: list[str]) -> None:
    server.prompt(a_wan(HIGH, "bf16", loras))

    def is_patched(model: Model) -> bool:
        return model.matched_samples is not None and model.matched_samples < (model.compared_samples or 0)

    (model,) = server.models_when(lambda models: [is_patched(model) for model in models] == [True], RECHECK_SECONDS)
    assert is_patched(model)
    assert (model.name, files_of(model)) == ("Wan2_2-T2V-A14B-HIGH", [HIGH])
    note(server, f"WanVideoLoraSelect, {len(loras)} merged", model, truth=server.truth["wan"])


def test_comfyuis_cache_of_outputs_holds_a_checkpoint_and_says_which_node(server: ComfyServer) -> None:
    models = rows(server, a_checkpoint(SD15), 3)
    for kind in ("checkpoint", "clip", "vae"):
        held = server.held_by(models[kind])
        print(kind, *held, sep="\n  ")
        assert any(text.startswith("ComfyUI's execution cache: output of node loader CheckpointLoaderSimple") for text in held), (
            held
        )


def test_the_last_nodes_are_stages_with_the_files_that_they_name(server: ComfyServer) -> None:
    nodes = a_checkpoint(SD15)
    strengths = {"strength_model": 1.0, "strength_clip": 1.0}
    links = {"model": ("loader", 0), "clip": ("loader", 1)}
    nodes["lora"] = ("LoraLoader", {**links, "lora_name": "more_details.safetensors", **strengths})
    server.prompt(nodes | truth("with LoRA", "lora"))
    server.models_when(lambda models: len(models) == 4)
    told = server.stages_when(lambda stages: any(stage.id == "lora" and stage.files for stage in stages))
    stages = {stage.id: stage for stage in told if stage.id in ("loader", "lora")}
    assert {stage.name for stage in stages.values()} == {"CheckpointLoaderSimple", "LoraLoader"}
    assert [Path(path).name for path in stages["loader"].files] == [SD15]
    assert [Path(path).name for path in stages["lora"].files] == ["more_details.safetensors"]
    assert all(stage.device == "cpu" and (stage.ended_at_ns or 0) > stage.started_at_ns for stage in stages.values())
    begun = len(server.snapshot().stages)
    server.prompt(nodes | truth("with LoRA", "lora"))  # all of it is cached
    assert len(server.snapshot().stages) == begun


def test_models_with_a_patcher_are_comfyuis_and_those_of_packs_are_not(server: ComfyServer) -> None:
    nodes = a_checkpoint(DREAMSHAPER) | {"pack": ("GpumodelsPackModel", {"model_path": "", "fails": False})}
    server.prompt(nodes | {"shown": ("PreviewAny", {"source": ("pack", 0)})})
    models = server.models_when(lambda models: len(models) == 4)
    assert server.snapshot().model_manager == "ComfyUI"
    assert {model.kind: model.managed_by for model in models} == {
        "checkpoint": "ComfyUI", "clip": "ComfyUI", "vae": "ComfyUI", "model": None,
    }  # fmt: skip
    known = {model.id for model in models}
    server.prompt(
        nodes
        | {"text": ("CLIPTextEncode", {"text": "a lake", "clip": ("loader", 1)})}
        | {"shown": ("PreviewAny", {"source": ("text", 0)})}
    )
    models = server.models_when(lambda models: any(model.managed_bytes for model in models))
    (loaded,) = [model for model in models if model.managed_bytes]
    assert (loaded.kind, loaded.managed_by) == ("clip", "ComfyUI")
    assert abs((loaded.managed_bytes or 0) - server.truth["clip"]) <= 4096
    assert {model.id for model in models} <= known


def test_asynchronous_nodes_and_nodes_that_fail_end(server: ComfyServer) -> None:
    slow: Nodes = {
        name: ("GpumodelsSlowPackModel", {"model_path": name, "fails": name == "failing"}) for name in ("one", "two", "failing")
    }
    shown: Nodes = {f"{name} shown": ("PreviewAny", {"source": (name, 0)}) for name in slow}
    with pytest.raises(AssertionError, match="as it was told to"):
        server.prompt(slow | shown)
    server.prompt(
        {"again": ("GpumodelsPackModel", {"model_path": "", "fails": False}), "shown": ("PreviewAny", {"source": ("again", 0)})}
    )
    stages = server.stages_when(lambda stages: any(stage.id == "again" for stage in stages))
    found = {stage.id: stage for stage in stages}
    assert found.keys() >= {"one", "two", "failing", "again"}
    assert all(stage.ended_at_ns is not None for stage in stages)
    first, second = sorted((found["one"], found["two"]), key=lambda stage: stage.started_at_ns)  # ComfyUI says no order
    ended = first.ended_at_ns or 0
    assert ended - first.started_at_ns >= 250_000_000
    assert second.started_at_ns < ended
