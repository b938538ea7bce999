#!/usr/bin/env bash
# PEFT 0.21.2: after one BOFT adapter, inductor compiles nothing for the CPU in the processes that this one starts.
#
# BOFT tries to build a CUDA extension while its first layer is made, under a context manager that sets CC and CXX to "gcc" and has no
# `finally` (peft/tuners/boft/layer.py, patch_environment). Where the build fails (no CUDA toolkit, no ninja), PEFT warns and goes on
# without the extension, but the two variables stay in os.environ. Inductor takes CXX for its C++ compiler when it is imported: gcc links
# no libstdc++, and torch.compile fails with "undefined symbol" when it loads what it built. The process itself goes on compiling if
# inductor was imported before, as PEFT's imports see to; a worker that it spawns does not. accelerate 1.15.0's function of the same
# name, from which PEFT's was copied, restores the environment in a `finally`.
#
# Needs: Python 3.11, gcc and g++, no CUDA toolkit.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3.11 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 peft==0.21.2 transformers==5.17.0 setuptools==80.9.0 >&2
cd "$place"
unset CC CXX
cat >worker.py <<'PY'
import os

import torch

torch._inductor.config.cpp.simdlen = 0  # to be done in seconds
print("CC", os.environ.get("CC"), "CXX", os.environ.get("CXX"))
try:
    torch.compile(lambda x: (x * 2).mean(0))(torch.ones(4, 8))
    print("compiled")
except Exception as error:
    print("undefined symbol" if "undefined symbol" in str(error) else repr(error)[:300])
PY
cat >host.py <<'PY'
import subprocess
import sys

import torch
from peft import BOFTConfig, get_peft_model

subprocess.run([sys.executable, "worker.py"], check=True)
get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), BOFTConfig(target_modules=["0"], boft_block_size=4))
subprocess.run([sys.executable, "worker.py"], check=True)
PY
TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 "$place/venv/bin/python" host.py 2>/dev/null | tee out.txt
diff out.txt - <<'TXT'
CC None CXX None
compiled
CC gcc CXX gcc
undefined symbol
TXT
echo "as described: a process started after the adapter was made can't load what inductor builds"
