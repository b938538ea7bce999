from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.sources.kernel_files import ROOT_VARIABLE, KernelFiles
from sysfs import FakeKernel


def test_the_environment_may_put_another_root_in_the_machines_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert KernelFiles().root == tmp_path
    monkeypatch.delenv(ROOT_VARIABLE)
    assert KernelFiles().root == Path("/")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("12", 12), ("0x0c", 12), ("-1", None), ("101", None), ("", None), ("N/A", None), ("1.5", None), ("9" * 10_000, None)],
)
def test_a_number_that_cannot_be_true_is_unknown(content: str, expected: int | None, tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    path = kernel.write("sys/figure", content)
    assert kernel.files.number(path, 100) == expected
    assert kernel.files.number(path.with_name("missing"), 100) is None
    assert kernel.files.number(path.parent, 100) is None


def test_only_descriptors_on_devices_of_the_directory_are_listed(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.client(7, 3, "", device="/dev/dri/card0")
    kernel.client(7, 4, "", device="/dev/null")
    (tmp_path / "proc/self").mkdir()
    assert kernel.files.open_devices(7, "/dev/dri/") == ["3"]
    assert kernel.files.open_devices(8, "/dev/dri/") == []
    assert list(kernel.files.pids()) == [7]


def test_a_machine_without_proc_has_no_processes(tmp_path: Path) -> None:
    assert list(KernelFiles(tmp_path / "none").pids()) == []
