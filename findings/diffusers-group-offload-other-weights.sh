#!/usr/bin/env bash
# diffusers 0.42.1: a model that is offloaded to a folder where another one of its architecture was computes with that one's weights.
#
# apply_group_offloading(..., offload_to_disk_path=folder) writes each group of modules to a file whose name is a hash of the group's
# name in its model ("blocks_0" and so on), so two models with the same module names have the same files. ModuleGroup._offload_to_disk
# (diffusers/hooks/group_offloading.py) writes a file only if none is there, then empties the tensors, and every forward reads the file.
# The second model's weights are lost without an exception, a warning, or a log record, and its output is the first one's, whether the
# file is from the same process or from an earlier run. So it is with two fine-tunes of one model, or with a checkpoint that was trained
# further between two runs. Neither the docstring of offload_to_disk_path nor the guide on memory asks for a folder of its own for each
# model; the guide's example gives one folder to two models. The package's group offloading needs accelerate.
#
# Without a GPU: both devices are the CPU here, and what is read and written is the same.
# Needs: Python 3.11.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3.11 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 accelerate==1.15.0 >&2
cd "$place"
cat >host.py <<'PY'
import os
import sys
import warnings

import torch
from diffusers.hooks import apply_group_offloading

warnings.simplefilter("always")


class Net(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(2, 1, bias=False)])
        torch.nn.init.constant_(self.blocks[0].weight, value)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@torch.no_grad()
def report(value, kind, folder):
    cpu = torch.device("cpu")
    model, x = Net(value), torch.ones(1, 2)
    before = model(x).item()
    number = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    apply_group_offloading(model, cpu, cpu, offload_type=kind, offload_to_disk_path=folder, **number)
    after = model(x).item()
    print(f"{kind}, weights {value}: {before} before, {after} after; files: {len(os.listdir(folder))}")


for kind in ("block_level", "leaf_level"):
    for value in map(float, sys.argv[1:]):
        report(value, kind, kind)
PY
mkdir block_level leaf_level
{
    "$place/venv/bin/python" host.py 1 5 &&
        "$place/venv/bin/python" host.py 7 # another run, the same folders
} >out.txt 2>errors.txt || { cat errors.txt >&2; exit 1; }
cat out.txt
diff out.txt - <<'TXT'
block_level, weights 1.0: 2.0 before, 2.0 after; files: 1
block_level, weights 5.0: 10.0 before, 2.0 after; files: 1
leaf_level, weights 1.0: 2.0 before, 2.0 after; files: 1
leaf_level, weights 5.0: 10.0 before, 2.0 after; files: 1
block_level, weights 7.0: 14.0 before, 2.0 after; files: 1
leaf_level, weights 7.0: 14.0 before, 2.0 after; files: 1
TXT
if grep -i "offload\|overwrit\|already exist" errors.txt; then exit 1; fi
echo "as described: the weights of the first model stand for those of the others, and nothing says so"
