"""Forks below `gpumodels run`: daemons and workers, which nobody can tell to start a sidecar."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.places import snapshot_files
from launched import environment, gpumodels

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

SERVED: Final = """
import os, sys, threading, time
def served():
    return [thread.name for thread in threading.enumerate()].count("gpumodels")
def published(name):
    import gpumodels.sidecar
    give_up = time.monotonic() + 60
    while name not in sys.modules["gpumodels.sidecar"].published_names() and time.monotonic() < give_up:
        time.sleep(0.02)
    return name in sys.modules["gpumodels.sidecar"].published_names()
"""
DAEMON: Final = f"""{SERVED}
if sys.argv[1] == "early":
    import torch
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        before = served()
        import torch
        model = torch.nn.Linear(512, 512)
        os.write(writer, f"{{before}} {{served()}} {{published('Linear')}} {{sys.argv}}".encode())
    os._exit(0)
os.wait()
os.close(writer)
print(os.read(reader, 1000).decode())
"""


def printed(folder: Path, source: str, *arguments: str, is_script: bool = True) -> str:
    """What the script prints below `gpumodels run`, started by its name, or by a Python that is named too."""
    (folder / "script.py").write_text(source)
    python = [] if is_script else [sys.executable]
    done = gpumodels(folder, "run", *python, "-W", "ignore::DeprecationWarning", "script.py", *arguments)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.parametrize("is_script", [True, False])
@pytest.mark.parametrize("imports", ["early", "late"])
def test_a_daemon_is_served_once_it_makes_a_model_whenever_it_imports_torch(
    imports: str, is_script: bool, tmp_path: Path
) -> None:
    assert printed(tmp_path, DAEMON, imports, is_script=is_script) == f"0 1 True ['script.py', '{imports}']\n"


def test_a_process_that_multiprocessing_forks_in_a_thread_is_served(tmp_path: Path) -> None:
    source = f"""{SERVED}
import multiprocessing, torch
def work():
    before, model = served(), torch.nn.Linear(512, 512)
    print(before, served(), published("Linear"), flush=True)
def start():
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    print(child.exitcode)
thread = threading.Thread(target=start)
thread.start()
thread.join()
"""
    assert printed(tmp_path, source) == "0 1 True\n0\n"


def test_a_child_that_makes_no_model_gets_no_thread_and_no_file(tmp_path: Path) -> None:
    source = f"""{SERVED}
import torch
model = torch.nn.Linear(512, 512)
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, number):
        return served()
for batch in torch.utils.data.DataLoader(Rows(), num_workers=2):
    print(batch.tolist(), end=" ")
"""
    assert printed(tmp_path, source) == "[0] [0] [0] [0] "
    assert len(snapshot_files(tmp_path / "gpm")) == 1


def test_after_stop_no_child_is_served(tmp_path: Path) -> None:
    source = f"""{SERVED}
import torch, gpumodels
gpumodels.stop()
if os.fork() == 0:
    torch.nn.Linear(8, 8)
    print(served(), flush=True)
    os._exit(0)
os.wait()
"""
    assert printed(tmp_path, source) == "0\n"


def test_a_child_of_a_program_that_started_it_itself_starts_its_own_or_none(tmp_path: Path) -> None:
    source = f"""{SERVED}
import torch, gpumodels
gpumodels.start()
if os.fork() == 0:
    torch.nn.Linear(8, 8)
    before = served()
    gpumodels.start()
    print(before, served(), flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0 1\n", "", 0)
