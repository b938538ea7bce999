"""Builds the stand-in for libnvidia-ml.so.1 and says which GPUs it has, for child processes: a real NVML client's whole world."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpumodels_tui.sources.gpu_reading import GpuReading

SOURCE: Final = Path(__file__).with_name("libnvidia_ml.c")


def compiler() -> str | None:
    """A C compiler, where there is one."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


class SimulatedNvml:
    """The library in a directory of its own, and the file that it answers from."""

    def __init__(self, directory: Path, without: Sequence[str] = ()) -> None:
        """Compile it, without the functions named in `without`: drivers of other ages lack some.

        Raises:
            FileNotFoundError: this machine has no C compiler.
            subprocess.CalledProcessError: the source doesn't compile.
        """
        found = compiler()
        if found is None:
            raise FileNotFoundError("no C compiler")
        self._directory = directory
        self._values = directory / "gpus.txt"
        library = directory / "libnvidia-ml.so.1"
        command = [found, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)]
        hidden = directory / "hidden.map"
        hidden.write_text("{ global: *; local: " + "".join(f"{name}; " for name in without) + "};\n")
        command += [f"-Wl,--version-script={hidden}"] if without else []
        subprocess.run(command, check=True, capture_output=True, text=True)
        self.says()

    def environment(self) -> dict[str, str]:
        """For the child process: this one's, with the library before any other."""
        before = os.environ.get("LD_LIBRARY_PATH", "")
        path = os.pathsep.join(filter(None, [str(self._directory), before]))
        return {**os.environ, "LD_LIBRARY_PATH": path, "SIMULATED_NVML": str(self._values)}

    def says(self, *gpus: GpuReading, init: int = 0, lost: frozenset[int] = frozenset()) -> None:
        """From the next question on, these are the GPUs; a field of None isn't supported. Slices follow
        their GPU. `lost` names GPUs by index."""
        lines = [f"init {init}"]
        for gpu in gpus:
            lines.append(f"{'gpu' if gpu.parent is None else 'slice'} {gpu.uuid} {gpu.name}")
            values = {
                "total": gpu.total_bytes,
                "used": gpu.used_bytes,
                "utilization": gpu.utilization_percent,
                "temperature": gpu.temperature_celsius,
                "power": None if gpu.power_watts is None else round(gpu.power_watts * 1000),
            }
            lines += [f"{key} {value}" for key, value in values.items() if value is not None]
            lines += [f"process {pid} {'-' if used is None else used}" for pid, used in gpu.processes.items()]
            lines += ["lost"] if gpu.index in lost else []
        # In one step: a question asked meanwhile is answered from the old file or from the new one.
        fresh = self._values.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self._values)
