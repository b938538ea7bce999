"""The hook in real child processes: what starts the sidecar, what doesn't, and that nothing else tells that it is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from gpumodels.launching.hook_files import HOOK, with_hook
from launched import a_folder_with_torch, environment

pytestmark = pytest.mark.slow

OLD_PYTHONS: Final = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))


def python(folder: Path, source: str, *, hooked: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """Python with the hook, on this source."""
    plain = environment(folder, **more)
    return subprocess.run(
        [sys.executable, "-c", source],
        cwd=a_folder_with_torch(folder),
        env=with_hook(plain) if hooked else plain,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def said(folder: Path, source: str, **more: str) -> str:
    done = python(folder, source, hooked=True, **more)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.strip()


def test_the_hooks_folder_holds_nothing_else() -> None:
    assert [file.name for file in HOOK.parent.iterdir() if file.name != "__pycache__"] == ["sitecustomize.py"]


def test_the_sidecar_starts_when_torch_is_imported_and_not_before(tmp_path: Path) -> None:
    source = """
import sys
before = [name for name in sys.modules if name.startswith("gpumodels")]
from says import served
print(before, served(), end=" ")
import torch
print(served())
"""
    assert said(tmp_path, source) == "[] False torch True"


def test_a_process_without_torch_gets_no_thread_no_file_and_no_module_of_ours(tmp_path: Path) -> None:
    source = """
import importlib.util, json, sys, threading
importlib.util.find_spec("torch")
print(threading.active_count(), [name for name in sys.modules if "gpumodels" in name])
"""
    assert said(tmp_path, source) == "1 []"
    assert not (tmp_path / "gpm").exists()


@pytest.mark.parametrize(
    "how", ["from torch import __name__ as name", "import importlib; importlib.import_module('torch')", "__import__('torch')"]
)
def test_every_way_to_import_counts(how: str, tmp_path: Path) -> None:
    assert said(tmp_path, f"{how}\nfrom says import served\nprint(served())") == "torch True"


def test_torch_that_another_finder_brought_is_seen_at_the_next_import(tmp_path: Path) -> None:
    source = """
import importlib.util, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            return importlib.util.find_spec(name)
sys.meta_path.insert(0, Finder())
import torch
import says
print(says.served())
"""
    assert said(tmp_path, source) == "torch True"


def test_gpumodels_0_turns_it_off(tmp_path: Path) -> None:
    source = "import sys; n = len(sys.meta_path); import torch; from says import served; print(served(), sys.meta_path[0])"
    off = said(tmp_path, source, GPUMODELS="0")
    assert off.startswith("torch False")
    assert "Gpumodels" not in off


STATE: Final = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "flags": str(sys.flags), "modules": sorted(sys.modules), "cwd": os.getcwd(),
    "main": sorted(vars(sys.modules["__main__"])), "hooks": len(sys.path_hooks),
    "finders": [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path],
    "cached": sorted(sys.path_importer_cache), "orig": sys.orig_argv, "stdin": sys.stdin.read(), "name": __name__,
}))
"""


def test_nothing_but_the_waiting_finder_tells_that_the_hook_is_there(tmp_path: Path) -> None:
    (tmp_path / "state.py").write_text(STATE)

    def state(given: dict[str, str]) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "state.py", "--a", "b c"],
            cwd=tmp_path,
            env=given,
            input="typed",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    plain = environment(tmp_path, PYTHONPATH=f"relative{os.pathsep}{tmp_path / 'no such folder'}")
    without, beside = state(plain), state(with_hook(plain))
    assert "GpumodelsTorchFinder" in beside["finders"].pop(0)
    assert beside == without


@pytest.mark.parametrize(
    "content", ["print('theirs', end=' ')", "print('theirs', end=' '); raise KeyError('broken')", "import no_such_module"]
)
def test_the_sitecustomize_that_was_there_runs_with_its_own_errors(content: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text(content)
    source = "import sys; print(getattr(sys.modules.get('sitecustomize'), '__file__', None))"
    without = python(tmp_path, source, hooked=False, PYTHONPATH=str(theirs))
    beside = python(tmp_path, source, PYTHONPATH=str(theirs))
    assert (beside.stdout, beside.stderr, beside.returncode) == (without.stdout, without.stderr, without.returncode)
    if content.endswith(")") and "raise" not in content:
        assert beside.stdout == f"theirs {theirs / 'sitecustomize.py'}\n"


def test_a_usercustomize_runs_too(tmp_path: Path) -> None:
    site = tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (site / "usercustomize.py").write_text("print('user', end=' ')")
    environment_of_user = environment(tmp_path, PYTHONUSERBASE=str(tmp_path))
    base = Path(sys.base_prefix) / "bin" / "python3"
    done = subprocess.run(
        [base, "-c", "import torch; from says import served; print(served())"],
        cwd=a_folder_with_torch(tmp_path),
        env=with_hook(environment_of_user),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("user torch True\n", "")


LAUNCHERS: Final = {
    "takes itself out and imports the next": """
import os, sys
sys.path.remove(os.path.dirname(__file__))
del sys.modules["sitecustomize"]
import sitecustomize
""",
    "runs the next beside itself": """
import importlib.machinery, importlib.util, os, sys
here = os.path.dirname(__file__)
sys.path.remove(here)
spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
""",
}


@pytest.mark.parametrize("other_is_first", [True, False])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_of_the_same_kind_and_ours_run_one_another_and_the_users(
    launcher: str, other_is_first: bool, tmp_path: Path
) -> None:
    other, theirs = tmp_path / "other", tmp_path / "theirs"
    for folder, content in ((other, f"print('other', end=' ')\n{LAUNCHERS[launcher]}"), (theirs, "print('theirs', end=' ')")):
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(content)
    plain = environment(a_folder_with_torch(tmp_path), PYTHONPATH=str(theirs))
    if other_is_first:
        hooked = with_hook(plain)
        hooked["PYTHONPATH"] = f"{other}{os.pathsep}{hooked['PYTHONPATH']}"
    else:
        hooked = with_hook({**plain, "PYTHONPATH": f"{other}{os.pathsep}{theirs}"})
    done = subprocess.run(
        [sys.executable, "-c", "import torch; from says import served; print(served())"],
        cwd=tmp_path,
        env=hooked,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("other theirs torch True\n", "")


@pytest.mark.parametrize("error", ["SystemExit(3)", "BaseException()", "ImportError('no')", "MemoryError()"])
def test_a_broken_gpumodels_is_not_noticed(error: str, tmp_path: Path) -> None:
    (tmp_path / "gpumodels").mkdir()
    (tmp_path / "gpumodels" / "__init__.py").write_text(f"raise {error}")
    assert said(tmp_path, "import torch; from says import served; print(served())", PYTHONPATH=str(tmp_path)) == "torch False"


def test_a_second_hook_in_the_same_process_starts_nothing(tmp_path: Path) -> None:
    source = f"""
import sys
scope = {{"__name__": "again"}}
exec(open({str(HOOK)!r}).read(), scope)
scope["install"]()
print([type(finder).__name__ for finder in sys.meta_path].count("GpumodelsTorchFinder"), end=" ")
import torch, threading
scope["install"]()
print([thread.name for thread in threading.enumerate()].count("gpumodels"))
"""
    assert said(tmp_path, source) == "1 torch 1"


def test_a_forked_child_that_imports_torch_is_served(tmp_path: Path) -> None:
    source = """
import os
if os.fork() == 0:
    import torch
    from says import served
    print(served(), flush=True)
    os._exit(0)
os.wait()
"""
    assert said(tmp_path, source) == "torch True"


def test_without_gpumodels_and_msgpack_there_ours_travel_and_the_host_sees_no_msgpack(tmp_path: Path) -> None:
    source = """
import sys, torch
from says import served
print(served(), "msgpack" in sys.modules, [entry for entry in sys.path if "site-packages" in entry])
try:
    import msgpack
except ImportError:
    print("no msgpack")
"""
    base = Path(sys.base_prefix) / "bin" / "python3"
    done = subprocess.run(
        [
            base,
            "-c",
            source.replace(
                "import sys, torch", "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]; import torch"
            ),
        ],
        cwd=a_folder_with_torch(tmp_path),
        env=with_hook(environment(tmp_path, PYTHONPATH="")),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("torch True False []\nno msgpack\n", "")
    assert len(list((tmp_path / "gpm").glob("*.gpm"))) == 1


@pytest.mark.skipif(not OLD_PYTHONS, reason="no other Python is installed by pyenv")
@pytest.mark.parametrize("other", OLD_PYTHONS, ids=lambda path: path.parts[-3])
def test_every_python_starts_with_the_hook_as_without(other: Path, tmp_path: Path) -> None:
    source = "import sys; print(sys.version_info[:2], [p for p in sys.path if 'hook' in p], 'sitecustomize' in sys.modules)"
    plain = environment(tmp_path, PYTHONPATH="", PYTHONDONTWRITEBYTECODE="1")  # Python 2 would write it beside the source
    without, beside = (
        subprocess.run([other, "-c", source], env=given, capture_output=True, text=True, timeout=60, check=True)
        for given in (plain, with_hook(plain))
    )
    assert (beside.stdout, beside.stderr) == (without.stdout, without.stderr)
