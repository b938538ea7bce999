"""ComfyUI's own loader and patcher with dynamic VRAM, on the CPU with a stand-in for the VBAR: files, names, pages."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from comfy_server import OWN, PACKAGES, make_models, needs, the_comfyui

pytestmark = [pytest.mark.timeout(900), needs()]

ALIGNMENT_BYTES = 2048
LORA = "lightx2v_rank8"
FILES = {
    "Wan2_2-T2V-A14B-HIGH_bf16": "Wan2_2-T2V-A14B-HIGH",
    "Wan2_1-T2V-1_3B_fp8_e4m3fn": "Wan2_1-T2V-1_3B",
    "Wan2_1-T2V-14B_fp8_e4m3fn_scaled_KJ": "Wan2_1-T2V-14B",
}


def moments(models: Path) -> list[Mapping[str, Any]]:
    comfyui = the_comfyui()
    assert comfyui is not None
    make_models(comfyui, models)
    paths = [str(models / "diffusion_models" / f"{name}.safetensors") for name in FILES]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    lora = str(models / "loras" / f"{LORA}.safetensors")
    command = [comfyui.python, str(OWN / "dynamic_vram_host.py"), str(comfyui.directory), lora, *paths]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]


def tensor_sizes(path: Path) -> list[int]:
    """Of all tensors in a safetensors file, in bytes."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    spans = [one["data_offsets"] for name, one in header.items() if name != "__metadata__"]
    return [end - start for start, end in spans]


def test_files_names_and_pages_are_those_that_comfyui_has(tmp_path: Path) -> None:
    seen = iter(moments(tmp_path))
    lora_bytes = sum(size for size in tensor_sizes(tmp_path / "loras" / f"{LORA}.safetensors") if size > 4)  # without its alphas
    for file, name in FILES.items():
        held = set()
        for moment in ("loaded", "prepared", *["pages"] * 4, "LoRA"):
            told = next(seen)
            assert told["moment"].endswith(moment)
            (row,), truth = told["said"], told["truth"]
            assert (row["name"], row["files"], row["is_dynamic"]) == (name, [f"{file}.safetensors"], True)
            assert row["confidence"] >= 0.95
            assert 0 <= truth["in_pages"] - row["on"] <= ALIGNMENT_BYTES * truth["layers"]
            assert (row["unread"], told["failures"]) == (0, 0)
            if moment == "LoRA":
                assert row["loras"] == [[LORA, 0, lora_bytes, True]]
            if not row["on"] and moment != "loaded":
                held.add(row["off"])
        assert len(held) == 1
        assert next(seen)["said"] == []
