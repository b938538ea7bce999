"""Compares what gpumodels says of the memory of ComfyUI's models with what ComfyUI, its VBARs and torch say: `make gpu-check`.

Needs a GPU and a ComfyUI; with `--dry-run` it does on the CPU what can be done there. Not run on a GPU yet.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from comfy_server import ComfyServer, Nodes, a_comfy_server, make_models, the_comfyui
from gpumodels_shared.schema import DeviceMemory, Model, Snapshot

MIB: Final = 1024**2
PAGE_BYTES: Final = 32 * MIB
ALIGNMENT_BYTES: Final = 2048
"""The most that ComfyUI adds to a layer's weight and bias in a VBAR, to align them."""
SCHEDULE_BYTES: Final = 64 * 1024
"""Tables beside the weights, which ComfyUI doesn't count in a model's size."""
SECONDS: Final = 20.0
"""By then what is published must be right."""
CHECKPOINTS: Final = ("dreamshaper_8.safetensors", "v1-5-pruned-emaonly-fp16.safetensors")
MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "default": (),
    "dynamic VRAM off": ("--disable-dynamic-vram",),
    "low VRAM": ("--lowvram",),
    "no VRAM": ("--novram",),
    "high VRAM": ("--highvram",),
    "4 GB reserved": ("--reserve-vram", "4"),
    "no mapping": ("--disable-mmap",),
    "nothing pinned": ("--disable-pinned-memory",),
    "dynamic VRAM off, low VRAM": ("--disable-dynamic-vram", "--lowvram"),
}
DRY_MODES: Final = ("default", "no mapping")


class Difference(NamedTuple):
    """One thing that is said otherwise than it is."""

    what: str
    said: int
    true: int


def differences(truth: Mapping[str, Any], snapshot: Snapshot) -> list[Difference]:
    """All that the snapshot says otherwise.

    Args:
        truth: what the node `GpumodelsMemory` found in the process.
        snapshot: what the sidecar published after that.
    """
    found: list[Difference] = []
    devices = {memory.device: memory for memory in snapshot.devices}
    for one in truth["models"]:
        models = [model for model in snapshot.models if model.class_name == one["class"] and model.parent is None]
        if len(models) != one["of_class"]:
            found.append(Difference(f"rows of {one['class']}", len(models), one["of_class"]))
        else:
            nearest = min((_of_model(model, one) for model in models), key=len)
            found += nearest
    for device, counted in truth["devices"].items():
        found += _of_device(devices.get(device), device, counted)
    return found


def _of_model(model: Model, truth: Mapping[str, Any]) -> list[Difference]:
    """What is said of one model's memory, against ComfyUI's own figures of it."""
    name = f"{truth['class']} ({model.name})"
    on = model.on_device_bytes if model.device == truth["device"] else model.bytes_by_device.get(truth["device"], 0)
    whole = model.on_device_bytes + model.offloaded_bytes + model.shared_bytes
    found = [Difference(f"{name}: dynamic memory", model.dynamic_memory, truth["is_dynamic"])]
    # A page that weights fill only in part is in `loaded_size` as a whole.
    slack = truth["pages"] * PAGE_BYTES - truth["in_pages"] + ALIGNMENT_BYTES * truth["layers"] + SCHEDULE_BYTES
    found.append(_within(f"{name}: on {truth['device']}", on, truth["in_pages"] + truth["on_device"], slack))
    found.append(_within(f"{name}: loaded_size", on, truth["loaded_size"], slack + PAGE_BYTES * bool(truth["pages"])))
    if not truth["is_cast"]:
        found.append(_within(f"{name}: on and off", whole, truth["size"], SCHEDULE_BYTES))
    found.append(_within(f"{name}: pinned", model.pinned_bytes, min(truth["pinned"], model.pinned_bytes), 0))
    return [one for one in found if one.said != one.true]


def _of_device(memory: DeviceMemory | None, device: str, truth: Mapping[str, int]) -> list[Difference]:
    if memory is None:
        return [Difference(f"{device}: known", 0, 1)] if truth["allocated"] else []
    found = [_within(f"{device}: allocated", memory.allocated_bytes or 0, truth["allocated"], 4 * MIB)]
    inside = memory.models_bytes + (memory.other_bytes or 0)
    most = truth["allocated"] + truth["beside_torch"]
    found.append(_within(f"{device}: models and other", inside, min(inside, most), 4 * MIB))
    if truth["aimdo_total"]:  # it counts torch's own memory as well
        beside = truth["beside_torch"]
        found.append(_within(f"{device}: VBARs", beside, min(beside, truth["aimdo_total"]), 0))
    return [one for one in found if one.said != one.true]


def _within(what: str, said: int, true: int, slack: int) -> Difference:
    """No difference if it is no larger than the slack."""
    return Difference(what, said, said if abs(said - true) <= slack else true)


def workflow(checkpoint: str, seed: int) -> Nodes:
    """One picture, and then what holds memory."""
    sampler = {"seed": seed, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ("loader", 0), "positive": ("text", 0), "negative": ("text", 0), "latent_image": ("latent", 0)}
    return {
        "loader": ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        "text": ("CLIPTextEncode", {"text": f"a lake, {seed}", "clip": ("loader", 1)}),
        "latent": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "sampled": ("KSampler", {**links, **sampler}),
        "decoded": ("VAEDecode", {"samples": ("sampled", 0), "vae": ("loader", 2)}),
        "memory": ("GpumodelsMemory", {"after": ("decoded", 0), "number": seed}),
    }


def moments(server: ComfyServer) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What is true at each moment of a session: one model, another in its place, the first again, and none."""
    for seed, checkpoint in enumerate((*CHECKPOINTS, CHECKPOINTS[0])):
        server.prompt(workflow(checkpoint, seed))
        yield f"after {Path(checkpoint).stem}", server.found["memory"]
    server.free()
    server.prompt({"memory": ("GpumodelsMemory", {"number": 99})})
    yield "after /free", server.found["memory"]


def check(mode: str, arguments: Sequence[str], models: Path, directory: Path, *, on_cpu: bool) -> int:
    """Run a session in this mode, and print a line a moment; how many moments were wrong."""
    comfyui = the_comfyui()
    assert comfyui is not None
    wrong = 0
    with a_comfy_server(comfyui, directory, models, tuple(arguments), on_cpu=on_cpu) as server:
        for moment, truth in moments(server):
            began = time.monotonic()
            while (left := differences(truth, server.snapshot())) and time.monotonic() - began < SECONDS:
                time.sleep(0.1)
            wrong += bool(left)
            said = "right" if not left else "; ".join(f"{one.what} {one.said:,}, is {one.true:,}" for one in left)
            count = f"{len(truth['models'])} models, {sum(one['is_dynamic'] for one in truth['models'])} dynamic"
            print(f"{mode:28} {moment:36} {count:24} {time.monotonic() - began:5.1f} s  {said}", flush=True)
    return wrong


def main(arguments: Sequence[str]) -> int:
    """All modes; 1 if anything was said otherwise than it is."""
    on_cpu = "--dry-run" in arguments
    comfyui = the_comfyui()
    if comfyui is None:
        print("gpumodels: say where ComfyUI is: make gpu-check COMFYUI=DIR", file=sys.stderr)
        return 2
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        make_models(comfyui, Path(temporary) / "models")
        for number, (mode, more) in enumerate(MODES.items()):
            if not on_cpu or mode in DRY_MODES:
                wrong += check(mode, more, Path(temporary) / "models", Path(temporary) / str(number), on_cpu=on_cpu)
    print("all as it is" if not wrong else f"{wrong} moments were said otherwise than they were")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
