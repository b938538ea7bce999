"""Checks of who asks and from where: files of other users and of other PID namespaces can't be read or joined to the driver's."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.pid_namespaces import sees_all_pids
from gpumodels_shared.places import RefusedError, chosen_group, every_users_directories
from gpumodels_tui.doctor.findings import Finding, failed, passed, warned
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.user_names import user_name


def user(machine: Machine) -> Iterator[Finding]:
    """Whether sidecars may run as other users than this command."""
    if group := machine.group_in.get("GPUMODELS_GROUP"):
        yield _group(group)
    name = user_name(machine.uid)
    if machine.uid == 0:
        yield passed("you are root, who reads every user's files")
        return
    hidden = [directory for directory in every_users_directories() if directory not in machine.directories]
    owners = ", ".join(sorted({user_name(int(directory.name.rpartition("-")[2])) for directory in hidden}))
    if not hidden:
        yield passed(f"you are {name}, and no other user has a directory of snapshots")
    elif any(process.liveness in (Liveness.LIVE, Liveness.STALLED) for process in machine.feed.processes):
        yield passed(f"you are {name}; {owners} had sidecars too, which you may not read")
    else:
        yield warned(
            f"you are {name}, whose sidecars none runs of, while {owners} had some, which you may not read",
            "Run this as that user or as root, or share by GPUMODELS_GROUP.",
        )


def namespace(machine: Machine) -> Iterator[Finding]:
    """Whether the numbers of processes mean the same here as in the files and in the driver."""
    if not sees_all_pids() and machine.has_nvidia_driver:
        yield warned(
            "this command runs in a PID namespace of its own, so the driver's numbers name none of the processes here",
            "Run it outside of the container, or start the container with the host's PID namespace (`--pid=host`).",
        )
    alive = [one for one in machine.feed.processes if one.liveness in (Liveness.LIVE, Liveness.STALLED)]
    foreign = [one for one in alive if one.driver_pid is None]
    for one in foreign:
        label = one.snapshot.process.label if one.snapshot is not None else "a process"
        yield warned(
            f"{label} runs in another PID namespace, as number {one.pid} there; which process that is here is unknown",
            "Run this outside of the container and as root; its models are shown all the same.",
        )
    if not foreign and (sees_all_pids() or not machine.has_nvidia_driver):
        inside = sum(not one.is_local for one in alive)
        yield passed(f"processes whose pids are known: {len(alive)}, of which in containers: {inside}")


def _group(group: str) -> Finding:
    try:
        gid = chosen_group({"GPUMODELS_GROUP": group})
    except RefusedError as error:
        return failed(str(error), "Name a group of this machine, or its number.")
    if gid is not None and gid not in {os.getegid(), *os.getgroups()} and os.geteuid() != 0:
        return warned(f"you are not in the group of GPUMODELS_GROUP={group}", "Become a member, and log in again.")
    return passed(f"GPUMODELS_GROUP={group} is a group of yours")
