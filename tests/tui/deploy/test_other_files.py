"""The files for Kubernetes, Slurm and the OpenTelemetry Collector: they parse, and start commands that there are."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest
import yaml

from gpumodels_tui.deploy.shipped_files import shipped_files
from gpumodels_tui.service.answers import INDEX
from gpumodels_tui.settings.parser import parser

KUBERNETES: Final = {str(path): yaml.safe_load(text) for path, text in shipped_files("kubernetes").items()}
COLLECTOR: Final[dict[str, Any]] = yaml.safe_load(shipped_files("otel")[PurePosixPath("collector.yml")])
SLURM: Final = {path.stem: text for path, text in shipped_files("slurm").items()}
NEEDS_BASH: Final = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
NOBODYS_UID: Final = 3_999_999_999


def pod(name: str) -> Any:
    document = KUBERNETES[name]
    return document["spec"]["template"]["spec"] if document["kind"] == "DaemonSet" else document["spec"]


def containers() -> Iterator[tuple[str, Any]]:
    for name in KUBERNETES:
        for container in (*pod(name).get("initContainers", []), *pod(name)["containers"]):
            yield name, container


def test_containers_start_the_metrics_service_and_are_probed_by_pages_that_there_are() -> None:
    services = [one for _, one in containers() if "gpumodels-tui" in one["command"]]
    assert len(services) == 2
    for service in services:
        words = [*service["command"], *service.get("args", [])]
        arguments = parser().parse_args(words[1:])
        assert (arguments.command, arguments.listen) == ("metrics", "0.0.0.0:9477")
        assert service["ports"][0]["containerPort"] == 9477
        probes = [service[key]["httpGet"] for key in service if key.endswith("Probe")]
        assert probes
        assert all(f"{probe['path']} " in INDEX and probe["port"] == "metrics" for probe in probes)


def test_every_mounted_volume_is_defined_and_snapshots_are_looked_for_where_they_are_written() -> None:
    for name, container in containers():
        volumes = {volume["name"] for volume in pod(name)["volumes"]}
        mounts = container["volumeMounts"]
        assert {mount["name"] for mount in mounts} <= volumes
        directories = [one["value"] for one in container.get("env", []) if one["name"] == "GPUMODELS_DIR"]
        if "gpumodels-tui" in container["command"]:
            words = [*container["command"], *container.get("args", [])]
            directories = [words[at + 1] for at, word in enumerate(words) if word == "--dir"]
            assert all(mount["readOnly"] for mount in mounts)
        assert all(any(one.startswith(mount["mountPath"]) for mount in mounts) for one in directories)
    written = {env["value"] for _, one in containers() for env in one.get("env", []) if env["name"] == "GPUMODELS_DIR"}
    read = {word for _, one in containers() if "gpumodels-tui" in one["command"] for word in one["command"] + one.get("args", [])}
    assert len(written) == 2
    assert written <= read


def test_the_node_makes_a_folder_for_every_user_that_it_reads() -> None:
    (maker,) = pod("gpumodels-metrics.yml")["initContainers"]
    (service,) = pod("gpumodels-metrics.yml")["containers"]
    (uids,) = [one["value"].split() for one in maker["env"] if one["name"] == "UIDS"]
    assert [word for word in service["args"] if word.startswith("/run")] == [f"/run/gpumodels/{uid}" for uid in uids]
    assert str(pod("pod.yml")["securityContext"]["runAsUser"]) in uids


def test_the_collector_receives_what_it_exports() -> None:
    pipeline = COLLECTOR["service"]["pipelines"]["metrics"]
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) == set(COLLECTOR[part])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_the_collectors_scrape_configuration(tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump(COLLECTOR["receivers"]["prometheus/gpumodels"]["config"]), encoding="utf-8")
    run = subprocess.run(["promtool", "check", "config", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder before all others on PATH, for programs that a test puts there."""
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def run_script(name: str, tools: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", SLURM[name]],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@NEEDS_BASH
@pytest.mark.parametrize("groups", ["users gpumodels video", "users gpumodels-admin"])
def test_the_task_prolog_shares_with_the_group_if_the_user_is_in_it(groups: str, tools: Path) -> None:
    put(tools, "id", f"echo {groups}")
    expected = "export GPUMODELS_GROUP=gpumodels\n" if "gpumodels video" in groups else ""
    assert run_script("task_prolog", tools).stdout == expected


@NEEDS_BASH
@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm")
def test_the_epilog_removes_what_is_left_once_nothing_of_the_user_runs(tools: Path, tmp_path: Path) -> None:
    left = Path(f"/dev/shm/gpumodels-{NOBODYS_UID}")
    kept = tmp_path / "kept"
    kept.touch()
    left.mkdir()
    try:
        (left / "1-1-0a0a0a0a.gpm").touch()
        (left / "link").symlink_to(tmp_path)
        put(tools, "pgrep", "exit 0")
        assert run_script("epilog", tools, SLURM_JOB_UID=str(NOBODYS_UID)).returncode == 0
        assert left.exists(), "another job of the user runs"
        put(tools, "pgrep", "exit 1")
        for wrong in ("", "0", "../x", "1 2"):
            assert run_script("epilog", tools, SLURM_JOB_UID=wrong).returncode == 0
        assert left.exists()
        assert run_script("epilog", tools, SLURM_JOB_UID=str(NOBODYS_UID)).returncode == 0
        assert not left.exists()
        assert kept.exists()
    finally:
        shutil.rmtree(left, ignore_errors=True)


@NEEDS_BASH
def test_a_jobs_own_exit_code_is_that_of_its_program_and_the_recording_ends_with_it(tools: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    put(
        tools,
        "srun",
        f'case "$*" in *" record "*) echo "$*" >>{log}; exec sleep 60 ;; *) echo "$*" >>{log}; sleep 0.2; exit 7 ;; esac',
    )
    done = run_script("job", tools, SLURM_SUBMIT_DIR=str(tmp_path), SLURM_JOB_ID="42")
    assert done.returncode == 7, done.stderr
    recorded, ran = sorted(log.read_text().splitlines(), key=lambda line: " record " not in line)
    assert recorded.endswith(f" record {tmp_path}/gpumodels-42.ndjson.gz")
    assert ran == "--overlap python -m gpumodels run train.py"
