from __future__ import annotations

import importlib
import importlib.util
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpumodels.observing.import_hook import ImportHook
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
        import gpumodels, gpumodels.sidecar, sys
        gpumodels.start(directory={str(tmp_path)!r} + "/gpm")
        finders = len(sys.meta_path)
        import torch
        print(gpumodels.sidecar._current._observer.torch_version == torch.__version__, finders - len(sys.meta_path))
        spec = torch.__spec__
        print(type(spec.loader).__name__, spec.origin == torch.__file__, torch.__loader__ is spec.loader)
        model = torch.nn.Linear(2, 2)
        print(len(gpumodels.sidecar._current._observer.registry))
        gpumodels.stop()
        print(finders - len(sys.meta_path))
    """
    )
    assert done.stdout.split() == ["True", "0", "SourceFileLoader", "True", "True", "1", "1"]
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


@pytest.mark.parametrize("noticed_by", ["the next import", "a check"])
def test_a_module_that_was_being_imported_when_the_wait_began_is_reported_once_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noticed_by: str
) -> None:
    """As ComfyUI's `comfy.utils`, which imports torch: the sidecar attaches in the middle of it."""
    arrived: list[tuple[str, bool]] = []
    hook = ImportHook()

    def attach() -> None:
        hook.wait(["an_outer_module"], lambda module: arrived.append((module.__name__, hasattr(module, "read"))))
        hook.check()

    monkeypatch.setitem(sys.modules, "an_attachment", SimpleNamespace(attach=attach))
    (tmp_path / "an_outer_module.py").write_text("import an_attachment; an_attachment.attach(); import an_inner_module; read = 1")
    for name in ("an_inner_module", "another_module"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        importlib.import_module("an_outer_module")
        assert arrived == []
        if noticed_by == "a check":
            hook.check()
        else:
            importlib.import_module("another_module")
        assert arrived == [("an_outer_module", True)]
        hook.check()
        assert (len(arrived), hook in sys.meta_path) == (1, False)
    finally:
        hook.cancel()
        for name in ("an_outer_module", "an_inner_module", "another_module"):
            sys.modules.pop(name, None)


def test_an_import_that_is_no_longer_awaited_is_not_listened_for() -> None:
    arrived: list[str] = []
    arrivals = ImportHook()
    arrivals.wait(["colorsys", "chunk_that_is_not_there"], lambda module: arrived.append(module.__name__))
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


def test_a_host_that_only_asks_for_a_spec_is_given_the_ordinary_one() -> None:
    ordinary = importlib.util.find_spec("colorsys")
    arrivals = ImportHook()
    sys.modules.pop("colorsys", None)
    arrivals.wait(["colorsys"], lambda module: None)
    try:
        spec = importlib.util.find_spec("colorsys")
        assert spec == ordinary
        assert spec is not None
        assert type(spec.loader).__name__ == "SourceFileLoader"
    finally:
        arrivals.cancel()


def test_a_loader_that_serves_many_modules_tells_of_the_awaited_one_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("zipped_outer.py", "import zipped_inner\n")
        archive.writestr("zipped_inner.py", "")
    arrived: list[str] = []
    arrivals = ImportHook()
    arrivals.wait(["zipped_outer"], lambda module: arrived.append(module.__name__))
    sys.path.insert(0, str(tmp_path / "some.zip"))
    try:
        importlib.import_module("zipped_outer")
        assert arrived == ["zipped_outer"]
    finally:
        arrivals.cancel()
        sys.path.pop(0)
        for name in ("zipped_outer", "zipped_inner"):
            sys.modules.pop(name, None)


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
