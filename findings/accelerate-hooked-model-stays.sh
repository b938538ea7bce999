#!/usr/bin/env bash
# accelerate 1.15.0: a model with hooks stays after `del` until a garbage collection, and so it does after its hooks were removed.
#
# add_hook_to_module (accelerate/hooks.py) sets module.forward to a partial that holds the module, and module._old_forward to the
# module's bound method, which holds it too: two cycles for every module that has a hook. cpu_offload and dispatch_model (device_map
# in other libraries) put hooks on the root and on each module with weights. remove_hook_from_module ends the first cycle but writes
# the bound method into module.forward, an attribute of the instance, where there was none before: a model whose hooks were removed
# still frees nothing at `del`, unless `forward` is deleted from each module's __dict__. The functions' docstrings don't mention it.
#
# Needs: Python 3.11.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3.11 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 accelerate==1.15.0 >&2
cd "$place"
cat >host.py <<'PY'
import gc
import weakref

import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_module

gc.disable()


def removed(model):
    return remove_hook_from_module(cpu_offload(model, torch.device("cpu")), recurse=True)


def removed_with_forward(model):
    for module in removed(model).modules():
        module.__dict__.pop("forward", None)
    return model


def report(name, change):
    model = change(torch.nn.Sequential(torch.nn.Linear(8, 8)))
    own_forwards = sum("forward" in vars(module) for module in model.modules())
    modules = [weakref.ref(module) for module in model.modules()]
    del model
    after_del = sum(module() is not None for module in modules)
    gc.collect()
    after_collection = sum(module() is not None for module in modules)
    print(f"{name}: {own_forwards} have their own forward; of 2 modules {after_del} after del, {after_collection} after a collection")


report("plain", lambda model: model)
report("cpu_offload", lambda model: cpu_offload(model, torch.device("cpu")))
report("hooks removed", removed)
report("hooks removed, and forward", removed_with_forward)
PY
"$place/venv/bin/python" host.py 2>errors.txt | tee out.txt || { cat errors.txt >&2; exit 1; }
diff out.txt - <<'TXT'
plain: 0 have their own forward; of 2 modules 0 after del, 0 after a collection
cpu_offload: 2 have their own forward; of 2 modules 2 after del, 0 after a collection
hooks removed: 2 have their own forward; of 2 modules 2 after del, 0 after a collection
hooks removed, and forward: 0 have their own forward; of 2 modules 0 after del, 0 after a collection
TXT
echo "as described: removing the hooks leaves the cycle"
