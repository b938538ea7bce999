"""Tells what a process was started as a part of: a distributed job and its rank in it, a batch job, a pod, a container."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.schema import Job

LONGEST: Final = 200
"""Characters of a name that are kept."""
MOST_RANKS: Final = 10**9
POD_NAMES: Final = ("POD_NAME", "MY_POD_NAME", "K8S_POD_NAME", "KUBERNETES_POD_NAME")
"""What manifests call the variable with `metadata.name`; Kubernetes itself names none."""
POD_NAMESPACES: Final = ("POD_NAMESPACE", "MY_POD_NAMESPACE", "K8S_NAMESPACE", "KUBERNETES_NAMESPACE", "KUBERNETES_POD_NAMESPACE")
RANKS: Final[tuple[tuple[str, str, str], ...]] = (
    ("RANK", "LOCAL_RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS"),
    ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
)
"""Who numbers the ranks: torch, Open MPI, MVAPICH, MPICH and Intel MPI, Slurm. The first that does is believed, and alone."""
MPI_JOBS: Final = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "OMPI_MCA_orte_ess_jobid")
"""What is the same for all ranks that one `mpirun` of Open MPI started; MPICH's says nothing of the kind."""
_CGROUP_ID: Final = re.compile(r"(?:^|[/:.-])([0-9a-f]{64})(?:\.scope)?(?=/|$|:)", re.MULTILINE)
_MOUNT_ID: Final = re.compile(r"/(?:overlay-)?containers/([0-9a-f]{64})/")
"""Where Docker and Podman keep a container's `hostname` and `resolv.conf`: seen where the cgroup's name is hidden from it."""


@never_pickled
@dataclass(frozen=True, slots=True)
class PartOfJob:
    """A process's job, and its rank in it."""

    job: Job | None
    rank: int | None


def part_of_job(environment: Mapping[str, str], container_id: str | None) -> PartOfJob:
    """What the environment says. Ranks of the same job have the same `Job.id`.

    Launchers stand inside one another, as torchrun in a step of Slurm in a container: the innermost gives the id.

    Args:
        environment: of the process, now; some programs set RANK themselves, after they have started.
        container_id: see `own_container`.
    """

    def stated(*names: str) -> str | None:
        return next((value[:LONGEST] for name in names if (value := environment.get(name, "").strip())), None)

    slurm_job, slurm_step = stated("SLURM_JOB_ID", "SLURM_JOBID"), stated("SLURM_STEP_ID", "SLURM_STEPID")
    source, (rank, local_rank, world_size) = _ranks(environment, in_step=bool(slurm_job and slurm_step))
    mpi_job = stated(*MPI_JOBS) if source.startswith("OMPI") else None
    in_pod = "KUBERNETES_SERVICE_HOST" in environment
    pod, namespace = (stated(*POD_NAMES), stated(*POD_NAMESPACES)) if in_pod else (None, None)
    run, address = stated("TORCHELASTIC_RUN_ID"), _address(stated("MASTER_ADDR"), stated("MASTER_PORT"))
    if run is not None:
        launcher, id = "torchrun", " ".join(part for part in (run if run != "none" else None, address) if part) or run
    elif mpi_job is not None:
        launcher, id = "mpi", mpi_job
    elif slurm_job is not None:
        launcher, id = "slurm", slurm_job if slurm_step is None else f"{slurm_job}.{slurm_step}"
    elif rank is not None and address is not None:
        launcher, id = None, address
    elif pod is not None:
        launcher, id = "kubernetes", pod if namespace is None else f"{namespace}/{pod}"
    elif container_id is not None:
        launcher, id = "container", container_id
    elif rank is not None or local_rank is not None or world_size is not None:
        launcher = id = None
    else:
        return PartOfJob(None, None)
    user = stated("SLURM_JOB_USER")
    job = Job(id, launcher, local_rank, world_size, slurm_job, slurm_step, user, namespace, pod, container_id)
    return PartOfJob(job, rank)


def own_container(proc: Path = Path("/proc/self")) -> str | None:
    """The id of the container that this process runs in, as its cgroup says, or its mounts where that is hidden; else None."""
    for name, pattern in (("cgroup", _CGROUP_ID), ("mountinfo", _MOUNT_ID)):
        try:
            found = pattern.search((proc / name).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found is not None:
            return found[1]
    return None


def _ranks(environment: Mapping[str, str], *, in_step: bool) -> tuple[str, tuple[int | None, int | None, int | None]]:
    """Which variable numbers this rank, and its rank, local rank and world size; "" and torch's own two if none does."""
    for names in RANKS:
        rank, local_rank, world_size = (_number(environment.get(name)) for name in names)
        if names[0] == "RANK":
            if rank is not None:
                return names[0], (rank, local_rank, world_size)
            continue
        if names[0] == "SLURM_PROCID" and not in_step:
            continue  # of the script that `sbatch` runs, which is no rank of what it starts
        if names[2] == "SLURM_NTASKS" and environment.get("SLURM_STEP_NUM_TASKS"):
            continue  # the job's, where the step has its own number
        if rank is not None and world_size is not None and rank < world_size > 1:  # each alone is no rank of anything
            return names[0], (rank, local_rank, world_size)
    return "", (None, _number(environment.get("LOCAL_RANK")), _number(environment.get("WORLD_SIZE")))


def _address(host: str | None, port: str | None) -> str | None:
    return None if host is None else host if port is None else f"{host}:{port}"


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and int(text[:12]) < MOST_RANKS else None
