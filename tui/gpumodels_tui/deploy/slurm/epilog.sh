#!/bin/bash
# Epilog, as root: removes what the sidecars of a user left behind, once nothing of that user runs on the node any more. Without
# it, the user's next sidecar removes what is older than a day.
[[ ${SLURM_JOB_UID:-} =~ ^[1-9][0-9]*$ ]] || exit 0
if ! pgrep -U "$SLURM_JOB_UID" >/dev/null; then
    rm -rf --one-file-system -- "/dev/shm/gpumodels-$SLURM_JOB_UID"
fi
exit 0
