from __future__ import annotations

import importlib
import sys

import pytest

from gpumodels.arrival import Arrivals
from processes import run_python


@pytest.mark.slow
def test_importing_the_sidecar_loads_neither_torch_nor_any_viewer_library() -> None:
    done = run_python("""
        import sys
        import gpumodels, gpumodels.auto
        heavy = {"torch", "textual", "rich", "msgspec", "watchdog", "psutil", "numpy", "pynvml", "safetensors"}
        print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
    """)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("[]", "", 0)


@pytest.mark.slow
def test_a_sidecar_started_first_attaches_inside_the_hosts_own_import_of_torch(tmp_path: object) -> None:
    done = run_python(
        f"""
        import gpumodels, sys
        gpumodels.start(directory={str(tmp_path)!r} + "/gpm")
        finders = len(sys.meta_path)
        import torch
        print(hasattr(torch.nn.Module.load_state_dict, "__wrapped__"), finders - len(sys.meta_path))
        print(type(torch.__spec__.loader).__name__, torch.__spec__.origin == torch.__file__)
        gpumodels.stop()
        print(hasattr(torch.nn.Module.load_state_dict, "__wrapped__"), finders - len(sys.meta_path))
    """
    )
    assert done.stdout.split() == ["True", "0", "SourceFileLoader", "True", "False", "1"]
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.slow
def test_a_host_without_torch_is_published_and_undisturbed(tmp_path: object) -> None:
    done = run_python(
        f"""
        import sys, time, os
        import gpumodels
        gpumodels.start(directory={str(tmp_path)!r} + "/gpm", interval=0.05)
        try:
            import no_such_module
        except ModuleNotFoundError as error:
            print(error.name)
        give_up = time.monotonic() + 20
        while not os.path.isdir({str(tmp_path)!r} + "/gpm") and time.monotonic() < give_up:
            time.sleep(0.01)
        print("torch" in sys.modules, os.path.isdir({str(tmp_path)!r} + "/gpm"))
        sys.exit(7)
    """
    )
    assert done.stdout.split() == ["no_such_module", "False", "True"]
    assert (done.stderr, done.returncode) == ("", 7)


def test_what_nobody_awaits_any_more_is_not_listened_for() -> None:
    arrived: list[str] = []
    arrivals = Arrivals()
    arrivals.wait({name: lambda module: arrived.append(module.__name__) for name in ("colorsys", "chunk_that_is_not_there")})
    try:
        sys.modules.pop("colorsys", None)
        importlib.import_module("colorsys")
        assert arrived == ["colorsys"]
        assert arrivals in sys.meta_path
    finally:
        arrivals.cancel()
    assert arrivals not in sys.meta_path
    sys.modules.pop("colorsys", None)
    importlib.import_module("colorsys")
    assert arrived == ["colorsys"]


@pytest.mark.slow
def test_on_windows_it_says_that_it_is_unsupported_and_leaves_the_host_alone() -> None:
    done = run_python("""
        import sys
        for unix_only in ("fcntl", "pwd", "grp", "resource", "termios"):
            sys.modules[unix_only] = None
        sys.platform = "win32"
        import logging
        logging.basicConfig(format="%(message)s", stream=sys.stdout)
        import gpumodels
        gpumodels.start(interval=1)
        gpumodels.stop()
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("Windows is not supported: the sidecar stays off\n", "", 0)
