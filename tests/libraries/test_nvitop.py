"""The names of models in the rows of nvitop 1.7.2, as docs/python.md does it, on a simulated NVML."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.identity import pid_namespace
from gpumodels_shared.pid_namespaces import FIRST_NAMESPACE
from library_hosts import needs
from nvml.simulation import SimulatedNvml, compiler
from snapshots import GIB, H100, a_gpu, a_model, a_process, a_snapshot, an_identity, published

EXAMPLE: Final = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL
)[1]


@needs("nvitop")
@pytest.mark.skipif(compiler() is None, reason="no C compiler")
@pytest.mark.skipif(pid_namespace() != FIRST_NAMESPACE, reason="these tests run in a container themselves")
def test_nvitops_rows_have_the_names_of_models(tmp_path: Path) -> None:
    library = tmp_path / "nvml"
    library.mkdir()
    nvml = SimulatedNvml(library)
    nvml.says(a_gpu(0, H100, processes={os.getpid(): 2 * GIB}))
    files = tmp_path / "files"
    files.mkdir()
    info = a_process(pid=os.getpid())
    writer = published(files, a_snapshot(a_model("wan", 2 * GIB, device="cuda:0"), process=info), an_identity(), 60_000)
    environment = {**nvml.environment(), "GPUMODELS_DIR": str(files), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == (f"0 {os.getpid()} 2048MiB wan\n", 0), done.stderr
    writer.abandon()
