from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from gpumodels.publishing.job_info import own_container, part_of_job
from gpumodels_shared.schema import Job

ID: Final = "0123456789abcdef" * 4
MASTER: Final = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
TORCHRUN: Final = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", **MASTER}
SLURM: Final = {"SLURM_JOB_ID": "4242", "SLURM_STEP_ID": "0", "SLURM_JOB_USER": "ann"}
STEP: Final = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
OMPI: Final = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "6"}
MVAPICH: Final = {"MV2_COMM_WORLD_RANK": "2", "MV2_COMM_WORLD_LOCAL_RANK": "0", "MV2_COMM_WORLD_SIZE": "6"}
MPICH: Final = {"PMI_RANK": "2", "MPI_LOCALRANKID": "0", "PMI_SIZE": "6"}
PRTE: Final = {"PMIX_NAMESPACE": "prterun-node1-77@1"}
POD: Final = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAME": "trainer-0", "POD_NAMESPACE": "training"}


def job(environment: Mapping[str, str], container: str | None = None) -> Job:
    found = part_of_job(environment, container).job
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("environment", "launcher", "id"),
    [
        (TORCHRUN, "torchrun", "node1:29500"),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "my-run"}, "torchrun", "my-run node1:29500"),
        ({"TORCHELASTIC_RUN_ID": "none"}, "torchrun", "none"),
        ({**SLURM, **TORCHRUN, **POD}, "torchrun", "node1:29500"),
        ({**SLURM, **POD, "RANK": "1", **MASTER}, "slurm", "4242.0"),
        ({"SLURM_JOBID": "7"}, "slurm", "7"),
        ({"RANK": "0", **MASTER}, None, "node1:29500"),
        ({"RANK": "0"}, None, None),
        ({**OMPI, **PRTE}, "mpi", "prterun-node1-77@1"),
        ({**OMPI, "OMPI_MCA_ess_base_jobid": "311033857"}, "mpi", "311033857"),
        ({**SLURM, **STEP, **OMPI, **PRTE}, "mpi", "prterun-node1-77@1"),
        ({**SLURM, **STEP, **PRTE}, "slurm", "4242.0"),  # srun speaks PMIx itself
        ({**SLURM, **MPICH}, "slurm", "4242.0"),
        ({**OMPI, **PRTE, **TORCHRUN}, "torchrun", "node1:29500"),
        ({**OMPI, **MASTER}, None, "node1:29500"),
        (POD, "kubernetes", "training/trainer-0"),
        ({**POD, "POD_NAMESPACE": ""}, "kubernetes", "trainer-0"),
    ],
)
def test_the_innermost_launcher_says_which_job_it_is(environment: dict[str, str], launcher: str | None, id: str | None) -> None:
    found = job(environment, ID)
    assert (found.launcher, found.id) == (launcher, id) if id else (found.launcher, found.id) == ("container", ID)


def test_all_that_is_said_is_kept() -> None:
    found = part_of_job({**TORCHRUN, **SLURM, **POD}, ID)
    assert found.rank == 3
    assert found.job == Job("node1:29500", "torchrun", 1, 4, "4242", "0", "ann", "training", "trainer-0", ID)


def test_what_says_nothing_is_no_job() -> None:
    found = part_of_job({"PATH": "/bin", "MASTER_ADDR": "node1", "POD_NAME": "not in a cluster", "RANK": " "}, None)
    assert (found.job, found.rank) == (None, None)


def test_slurms_tasks_are_ranks_where_nothing_else_says_so() -> None:
    found = part_of_job({**SLURM, **STEP}, None)
    assert found.job is not None
    assert (found.rank, found.job.local_rank, found.job.world_size) == (5, 1, 8)
    assert part_of_job({**SLURM, **STEP, **TORCHRUN}, None).rank == 3
    assert part_of_job({**SLURM, **STEP, "SLURM_STEP_NUM_TASKS": "1"}, None).rank is None  # each is a job step of its own


@pytest.mark.parametrize("mpi", [OMPI, MVAPICH, MPICH], ids=["Open MPI", "MVAPICH", "MPICH"])
def test_the_ranks_of_mpirun_are_numbered_by_it_unless_torch_numbers_them(mpi: dict[str, str]) -> None:
    for environment in (mpi, {**SLURM, **STEP, **mpi}):  # also where mpirun was started by a step of Slurm
        found = part_of_job(environment, None)
        assert found.job is not None
        assert (found.rank, found.job.local_rank, found.job.world_size) == (2, 0, 6)
    assert part_of_job({**mpi, **TORCHRUN}, None).rank == 3
    one = {**mpi, next(name for name in mpi if name.endswith("_SIZE")): "1"}
    assert part_of_job(one, None).rank is None  # alone, it is no rank of anything
    assert part_of_job({**mpi, next(name for name in mpi if name.endswith("_RANK")): "6"}, None).rank is None


def test_slurms_tasks_of_the_job_count_where_the_step_has_no_number_of_its_own() -> None:
    tasks = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}
    assert part_of_job({**SLURM, **tasks}, None).rank == 5
    assert part_of_job({**SLURM, **tasks, "SLURM_STEP_NUM_TASKS": "1"}, None).rank is None
    assert part_of_job({"SLURM_JOB_ID": "7", **tasks}, None).rank is None  # the batch script


@pytest.mark.parametrize("stated", ["none", "-1", "1.5", "", "9" * 400, "٣"])
def test_a_rank_that_is_no_number_is_unknown(stated: str) -> None:
    assert part_of_job({"RANK": stated, **MASTER, "LOCAL_RANK": "0"}, None).rank is None


def test_absurdly_long_names_are_cut() -> None:
    assert len(job({**POD, "POD_NAME": "x" * 10_000, "POD_NAMESPACE": ""}).id or "") == 200


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"cgroup": f"0::/system.slice/docker-{ID}.scope\n"}, ID),
        ({"cgroup": f"12:memory:/docker/{ID}\n11:cpu:/docker/{ID}\n0::/\n"}, ID),
        ({"cgroup": f"0::/kubepods.slice/kubepods-pod9f_1.slice/cri-containerd-{ID}.scope\n"}, ID),
        ({"cgroup": f"0::/kubepods/burstable/pod9f/crio-{ID}/container\n"}, ID),
        ({"cgroup": f"0::/user.slice/user-1.slice/libpod-{ID}.scope/container\n"}, ID),
        ({"cgroup": f"0::/system.slice/containerd.service/kubepods-pod9.slice:cri-containerd:{ID}\n"}, ID),
        (
            {
                "cgroup": "0::/\n",
                "mountinfo": f"1 2 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw\n",
            },
            ID,
        ),
        ({"cgroup": "0::/\n", "mountinfo": f"1 2 8:1 /run/overlay-containers/{ID}/userdata/hostname /etc/hostname rw\n"}, ID),
        (
            {"cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n", "mountinfo": "1 2 8:1 / / rw - ext4\n"},
            None,
        ),
        ({"cgroup": f"0::/build/{ID}0\n"}, None),
        ({"cgroup": f"0::/build/x{ID}\n"}, None),
        ({}, None),
    ],
)
def test_the_container_is_told_by_its_cgroup_or_its_mounts(files: dict[str, Any], found: str | None, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert own_container(tmp_path) == found
