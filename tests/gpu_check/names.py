"""Whether each way of loading gets the name of what was loaded, and the bytes of its storages on the device."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from accelerator_cases import DEVICE_CASES, LOADS, best_assignment
from gpu_check.machine import Clock, Machine, Row
from hosts import Host
from provenance_cases import IMPORTS, NET, PREPARE, START, Case

NEEDED: Final = ("accelerate", "diffusers", "gguf", "peft", "safetensors", "transformers")
SETTINGS: Final = (("early", "0"), ("early", "1"), ("late", "0"))
"""Whether the sidecar is there before the load or started after it, and whether it may sample the device."""
FIRST: Final = ("load_file(device), into", "safe_open(device), get", "load_model", "copied parameter", "diffusers: sequential")
"""How the names of those cases begin that come first, as far as the time goes."""
HELD: Final = """
def flat(tensor):
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from flat(getattr(tensor, name))
    elif tensor.device.type != "meta":
        yield tensor

def bytes_on_device():
    things = kept if isinstance(kept, list) else list(kept.components.values()) if hasattr(kept, "components") else [kept]
    storages = {}
    for module in things:
        for tensor in ([*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else ()):
            for one in flat(tensor):
                if str(one.device) == D:
                    storage = one.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
"""


def check(machine: Machine, clock: Clock) -> list[Row]:
    """As many cases as the time allows, under each setting."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        return [Row("names", "real loads", f"needs {', '.join(missing)}", None)]
    files = machine.directory / "files"
    files.mkdir()
    subprocess.run([sys.executable, "-c", PREPARE, str(files)], check=True, capture_output=True, timeout=200)
    cases = [case for case in DEVICE_CASES if machine.second is not None or "npu:1" not in case.source]
    cases.sort(key=lambda case: not case.name.startswith(FIRST))
    rows = []
    for number, (order, samples) in enumerate(SETTINGS):
        share = Clock(clock.left() / (len(SETTINGS) - number))
        rows += _of_setting(machine, files, order, samples, cases, share)
    return rows


def _of_setting(machine: Machine, files: Path, order: str, samples: str, cases: Sequence[Case], clock: Clock) -> list[Row]:
    counts: Counter[str] = Counter()
    bytes_right = done = absent = 0
    wrong: list[str] = []
    settings = {"GPUMODELS_SAMPLE_ACCELERATOR": samples}
    with machine.host(f"names-{order}-{samples}", settings, is_started=order == "early") as host:
        for source in (IMPORTS, NET, LOADS, HELD, f"os.chdir({str(files)!r})"):
            host.tell(source)
        for case in cases:
            if clock.left() < 0 and done:
                break
            try:
                words, is_size_right = _of_case(machine, host, order, case)
            except AssertionError as error:
                if "No module named" not in str(error):
                    wrong.append(f"{case.name}: {str(error).strip().splitlines()[-1]}")
                absent += 1
                continue
            done += 1
            counts.update(words)
            bytes_right += is_size_right
            wrong += [case.name] if "wrong" in words or not is_size_right else []
    what = f"{order}, {'with' if samples == '1' else 'without'} samples: {done} of {len(cases)} ways to load"
    said = ", ".join(f"{counts[word]} {word}" for word in ("right", "uncertain", "wrong"))
    rows = [Row("names", what, said, not counts["wrong"])]
    rows.append(Row("names", "the bytes of their storages on the device", f"{bytes_right} of {done} exact", bytes_right == done))
    return rows if not wrong else [*rows, Row("names", "wrong", "; ".join(wrong), False)]


def _of_case(machine: Machine, host: Host, order: str, case: Case) -> tuple[list[str], bool]:
    source = case.source.strip().replace("'npu:1'", repr(machine.second))
    if order == "early":
        host.tell("kept = file = None; import gc; gc.collect()")
        host.models_when(lambda found: not found)
        host.tell(source)
    else:
        host.tell("gpumodels.stop(); kept = file = None; import gc; gc.collect()")
        host.tell(source)
        host.tell(START)
    host.models_when(lambda found: len(found) >= len(case.expected))
    host.wait_for_ticks(3)
    found = host.models_when(lambda found: len(found) == len(case.expected))
    said = sum(model.bytes_by_device.get(machine.device, 0) for model in found)
    return [word for word, _ in best_assignment(found, case)], said == host.tell("bytes_on_device()")
