#!/bin/bash
# TaskProlog: lets the sidecars of a job share what they see with the group whose metrics service reads it. The service is
# gpumodels-metrics.service; where it runs for every user, this isn't needed. Users who aren't in the group share nothing.
if id -nG | tr ' ' '\n' | grep -qx gpumodels; then
    echo "export GPUMODELS_GROUP=gpumodels"
fi
