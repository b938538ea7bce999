"""Naming by values, for models whose loading wasn't observed: 61 fine-tunes in a process, and 20 models among 1,000 files.

Each beside the build that compared pair by pair, in the same run, from an empty cache.
"""

from __future__ import annotations

import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.builds import builds
from gpumodels_shared.codec import encode
from gpumodels_shared.fingerprint import COARSE_CLOCK_NS, VALUES, choose_samples
from gpumodels_shared.schema import Fingerprint, TensorSample
from hosts import a_host
from integration.test_named_by_values import LOAD_ALL, SETUP, TUNES, write_family
from snapshots import a_model, a_snapshot

RUNS: Final = 3
SECOND_SECONDS: Final = 0.5
"""The longest that a second run of the viewer may take, the start of its process included."""

FILES: Final = 1_000
MODELS: Final = 20
TENSORS: Final = 264
COLD_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 20.0
"""After this a build that has not finished is stopped."""


def main() -> None:
    """Print a few lines each for the family of fine-tunes and for the many files."""
    with builds() as roots, tempfile.TemporaryDirectory() as place:
        fine_tunes(Path(place), roots)
        many_files(Path(place), roots)


def environment(root: Path, cache: Path) -> dict[str, str]:
    """The environment of a child that runs this build, with a cache of its own."""
    paths = os.pathsep.join(str(root / part) for part in ("tui", "shared"))
    return {**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(cache)}


# One process with 61 models of one shape.


def fine_tunes(place: Path, roots: Mapping[str, Path]) -> None:
    """Print how many models `--json` names in its first run and in the next ones, and how long each run takes."""
    models, snapshots = place / "family", place / "gpm"
    models.mkdir()
    write_family(models)
    with a_host(snapshots, SETUP) as host:
        host.tell(LOAD_ALL.format(count=TUNES, models=models, dtype="torch.bfloat16"))
        host.models_when(lambda found: sum(model.fingerprint is not None for model in found) == TUNES)
        seconds: dict[str, float] = {}
        for build, root in roots.items():
            runs = [one_run(root, place / f"cache-{build}", snapshots, models) for _ in range(1 + RUNS)]
            seconds[build] = min(took for _, took in runs[1:])
            (named, took), later = runs[0], runs[-1][0]
            print(
                f"{TUNES} unseen fine-tunes, {build}: the first --json names {named} (target {TUNES}) in {took:.2f} s; the next "
                f"take {seconds[build]:.2f} s (target {SECOND_SECONDS:g}), and the last of {RUNS} names {later}",
                flush=True,
            )
        if len(seconds) == 2:
            print(f"a run after the first: × {seconds['today'] / seconds['before']:.2f} of before", flush=True)


def one_run(root: Path, cache: Path, snapshots: Path, models: Path) -> tuple[int, float]:
    """How many models are named by their values, and how many seconds the process takes."""
    command = [sys.executable, "-m", "gpumodels_tui", "--dir", str(snapshots), "--models", str(models), "--json"]
    began = time.monotonic()
    done = subprocess.run(command, env=environment(root, cache), capture_output=True, text=True, check=True)
    took = time.monotonic() - began
    return sum(model["name_source"] == "values" for model in json.loads(done.stdout)["processes"][0]["models"]), took


# 20 models among 1,000 files.

CATALOGUE: Final = """
import json, sys, time
from pathlib import Path
from gpumodels_shared.decoding import decode
from gpumodels_tui.catalogue.cache import Cache
try:
    from gpumodels_tui.headers.header_reader import HeaderWorker
except ImportError:  # the earlier build has no rooms
    from gpumodels_tui.catalogue.header_reader import HeaderWorker
from gpumodels_tui.catalogue.watch import Catalogue

models, wanted, cache, longest = sys.argv[1:]
requests, ask = 0, HeaderWorker._ask

def counting(*arguments):
    global requests
    requests += 1
    return ask(*arguments)

HeaderWorker._ask = counting
prints = [model.fingerprint for model in decode(Path(wanted).read_bytes()).models]
catalogue = Catalogue([models], cache=Cache(Path(cache) / "catalogue.sqlite"))
catalogue.find_files_of(prints)
began = time.monotonic()
catalogue.start()
while len(values := catalogue.state().values) < len(prints) and time.monotonic() - began < float(longest):
    time.sleep(0.005)
took = time.monotonic() - began
catalogue.stop()
print(json.dumps([[Path(values[one].files[0]).name for one in prints if one in values], took, requests]))
"""
"""Runs in a child, with either build: prints the files that were found, the seconds, and the requests to the worker."""


def many_files(place: Path, roots: Mapping[str, Path]) -> None:
    """Print how long a catalogue with an empty cache takes to find all models' files, and how often it opens each file."""
    models = place / "loras"
    models.mkdir()
    prints = write_loras(models)
    wanted = place / "wanted"
    wanted.write_bytes(encode(a_snapshot(*(replace(a_model(str(n)), fingerprint=one) for n, one in enumerate(prints)))))
    for build, root in roots.items():
        command = [sys.executable, "-c", CATALOGUE, str(models), str(wanted), str(place / f"cache-{build}"), str(LONGEST_SECONDS)]
        done = subprocess.run(command, env=environment(root, place), capture_output=True, text=True, check=True)
        files, took, requests = json.loads(done.stdout)
        named = len(files)
        assert named < MODELS or files == [f"lora-{number * FILES // MODELS:04}.safetensors" for number in range(MODELS)]
        in_time = f"in {took:.1f} s" if named == MODELS else f"when it was stopped after {took:.0f} s"
        print(
            f"{MODELS} unseen models, {FILES:,} files of their shape, cold, {build}: {named} named {in_time} "
            f"(target {COLD_SECONDS:g}); {requests / FILES:.2f} openings a file (target 1)",
            flush=True,
        )


def write_loras(directory: Path) -> list[Fingerprint]:
    """Write small LoRAs of one shape, and return the fingerprints of some, as they are or cast and renamed."""
    dice = random.Random(1)
    pool = struct.pack("<65536e", *(dice.gauss(0, 0.02) for _ in range(65_536)))
    shapes = {
        f"lora_unet_down_blocks_{block}_attn1_to_q.{part}.weight": shape
        for block in range(TENSORS // 2)
        for part, shape in (("lora_down", (4, 64)), ("lora_up", (64, 4)))
    }
    size = 2 * 4 * 64
    header = {
        key: {"dtype": "F16", "shape": shape, "data_offsets": [number * size, (number + 1) * size]}
        for number, (key, shape) in enumerate(shapes.items())
    }
    head = json.dumps({"__metadata__": {f"ss_setting_{key}": str(key) for key in range(40)}, **header}).encode()
    prints = []
    for number in range(FILES):
        starts = [2 * dice.randrange(65_536 - size) for _ in shapes]
        data = b"".join(pool[start : start + size] for start in starts)
        (directory / f"lora-{number:04}.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
        if number % (FILES // MODELS) == 0:
            firsts = {key: pool[start : start + 2 * VALUES] for key, start in zip(shapes, starts, strict=True)}
            prints.append(in_memory(firsts, shapes, is_renamed=number % 100 == 0))
    return prints


def in_memory(firsts: Mapping[str, bytes], shapes: Mapping[str, tuple[int, ...]], is_renamed: bool) -> Fingerprint:
    """The fingerprint of a model that was loaded from the file with these values."""

    def sample(key: str) -> TensorSample:
        if not is_renamed:
            return TensorSample(key, "float16", shapes[key], firsts[key])
        wide = struct.pack(f"<{VALUES}f", *struct.unpack(f"<{VALUES}e", firsts[key]))
        return TensorSample(key.replace("lora_unet_down_blocks_", "unet.blocks."), "float32", shapes[key], wide)

    return Fingerprint(
        choose_samples({key: math.prod(shape) for key, shape in shapes.items()}, sample),
        time.time_ns() + 3_600 * 10**9 + COARSE_CLOCK_NS,
    )
