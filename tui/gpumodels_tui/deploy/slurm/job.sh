#!/bin/bash
#SBATCH --job-name=train
#SBATCH --gpus=1
# A job whose models are on view: with `gpumodels-tui` on its node meanwhile, and afterwards in its recording.
srun --overlap --ntasks-per-node=1 @gpumodels-tui@ record "$SLURM_SUBMIT_DIR/gpumodels-$SLURM_JOB_ID.ndjson.gz" &
recording=$!
srun --overlap python -m gpumodels run train.py
status=$?
kill "$recording"
wait "$recording"
exit "$status"
