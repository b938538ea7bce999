"""The catalogue with 10,000 model files: time and memory of the first and the second start, each in a process of its own."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from gpumodels_tui.catalogue.cache import Cache
from gpumodels_tui.catalogue.watch import Catalogue

FILES: Final = 10_000
DIRECTORIES: Final = 50
PROMISES: Final = {"cold": (15.0, 200.0), "warm": (0.3, 200.0)}
"""Targets: seconds, and MiB more than with an empty catalogue."""

LONGEST_SECONDS: Final = 120.0


def a_lora(number: int) -> tuple[bytes, int]:
    """A LoRA's header as trainers write it (264 tensors, 42 metadata keys, 30 KB of tag statistics), and its tensors' bytes."""
    header: dict[str, object] = {}
    offset = 0
    for block in range(132):
        for part, shape in (("lora_down", [16, 640]), ("lora_up", [640, 16])):
            end = offset + 2 * 16 * 640
            name = f"lora_unet_down_blocks_{block}_attentions_0_transformer_blocks_{number % 7}_attn1_to_q.{part}.weight"
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, end]}
            offset = end
    metadata = {f"ss_setting_{key}": f"value {key} of {number}" for key in range(40)}
    metadata["modelspec.title"] = f"LoRA {number}"
    metadata["ss_tag_frequency"] = json.dumps({"10_x": {f"tag {key}": key for key in range(1500)}})
    packed = json.dumps({"__metadata__": metadata, **header}).encode()
    return struct.pack("<Q", len(packed)) + packed, offset


def write_files(directory: Path) -> None:
    """Write the collection of LoRAs, with holes for the values of tensors."""
    for number in range(FILES):
        content, data_bytes = a_lora(number)
        path = directory / f"{number % DIRECTORIES:02d}" / f"{number}.safetensors"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.truncate(file.tell() + data_bytes)


def measure(models: str, cache: str) -> None:
    """Runs in the child: seconds until all files are read, and the memory of this process and its worker in MiB."""
    expected = sum(1 for _ in Path(models).rglob("*.safetensors"))
    catalogue = Catalogue([models], cache=Cache(Path(cache)))
    began = time.monotonic()
    catalogue.start()
    while len((state := catalogue.state()).by_path) < expected or state.pending:
        assert time.monotonic() - began < LONGEST_SECONDS, state.warnings
        time.sleep(0.005)
    took = time.monotonic() - began
    own = psutil.Process()
    processes = (own, *own.children())
    resident = sum(process.memory_info().rss for process in processes)
    busy = [sum(process.cpu_times()[:2]) for process in processes]
    print(json.dumps([took, resident / 1024**2, busy, seconds_to_show(catalogue, Path(models)), *state.warnings]))
    catalogue.stop()


def seconds_to_show(catalogue: Catalogue, models: Path) -> float:
    """Seconds until a new file shows, the slowest of five."""
    slowest = 0.0
    for number in range(5):
        path = models / f"newcomer-{number}.safetensors"
        content, data_bytes = a_lora(number)
        began = time.monotonic()
        path.write_bytes(content + bytes(data_bytes))
        while str(path) not in catalogue.state().by_path:
            assert time.monotonic() - began < LONGEST_SECONDS
            time.sleep(0.002)
        slowest = max(slowest, time.monotonic() - began)
        path.unlink()
    return slowest


def in_a_child(models: Path, cache: Path) -> tuple[float, float, list[float], float]:
    """Seconds, MiB, CPU seconds of the viewer and its worker, and the seconds until a new file showed."""
    code = f"from benchmarks.catalogue import measure; measure({str(models)!r}, {str(cache)!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, resident, busy, shows, *warnings = json.loads(result.stdout)
    assert not warnings, warnings
    return float(took), float(resident), busy, float(shows)


def main() -> None:
    """Print a line each for the first start, the second and a third."""
    with tempfile.TemporaryDirectory() as place:
        models, empty, cache = Path(place) / "models", Path(place) / "empty", Path(place) / "cache" / "catalogue.sqlite"
        models.mkdir()
        empty.mkdir()
        write_files(models)
        _, nothing, imports, _ = in_a_child(empty, Path(place) / "other" / "catalogue.sqlite")
        print(f"empty catalogue: {nothing:.0f} MiB resident")
        for name in ("cold", "warm", "warm"):
            took, resident, busy, shows = in_a_child(models, cache)
            busy[0] -= imports[0]
            seconds, mebibytes = PROMISES[name]
            cpu = " + ".join(f"{one:.2f}" for one in busy)
            on_disk = cache.stat().st_size / 1024**2
            print(
                f"{name}: {FILES:,} files in {took:.2f} s (promised {seconds:g}; CPU {cpu} s), {resident - nothing:.0f} MiB "
                f"above the empty catalogue (promised {mebibytes:g}), {on_disk:.0f} MiB on disk; "
                f"a new file shows in {shows:.2f} s (promised 1)",
                flush=True,
            )
