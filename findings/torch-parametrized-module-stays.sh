#!/usr/bin/env bash
# torch 2.13.0: a module with a parametrization is part of a reference cycle, so its weights stay after `del` until a garbage collection.
#
# register_parametrization gives the module a class of its own and puts a property into it (torch/nn/utils/parametrize.py,
# _inject_property). A function that the property's getter uses closes over `module`, to take id(module) for a key, and so the class
# holds the module and the module its class. All of torch.nn.utils.parametrizations is built on it: weight_norm, spectral_norm,
# orthogonal. The deprecated torch.nn.utils.weight_norm makes no cycle, and neither does a plain module: their weights go when the last
# reference does. Whoever moves from the old weight_norm to the new one, as its warning asks, finds that `del model` frees nothing
# at once; a collection frees it, or parametrize.remove_parametrizations before the `del`. The functions' docstrings don't mention it.
#
# Needs: Python 3.11.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3.11 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 >&2
cd "$place"
cat >host.py <<'PY'
import gc
import warnings
import weakref

import torch
from torch.nn.utils import parametrizations, parametrize

warnings.simplefilter("ignore")  # the old weight_norm's
gc.disable()


def removed_again(linear):
    return parametrize.remove_parametrizations(parametrizations.weight_norm(linear), "weight")


def report(name, change):
    model = torch.nn.Sequential(change(torch.nn.Linear(8, 8)))
    weights = [weakref.ref(parameter) for parameter in model.parameters()]
    del model
    after_del = sum(weight() is not None for weight in weights)
    gc.collect()
    after_collection = sum(weight() is not None for weight in weights)
    print(f"{name}: {len(weights)} parameters, {after_del} after del, {after_collection} after a collection")


report("plain", lambda linear: linear)
report("old weight_norm", torch.nn.utils.weight_norm)
report("weight_norm", parametrizations.weight_norm)
report("spectral_norm", parametrizations.spectral_norm)
report("orthogonal", parametrizations.orthogonal)
report("weight_norm, removed", removed_again)
PY
"$place/venv/bin/python" host.py 2>errors.txt | tee out.txt || { cat errors.txt >&2; exit 1; }
diff out.txt - <<'TXT'
plain: 2 parameters, 0 after del, 0 after a collection
old weight_norm: 3 parameters, 0 after del, 0 after a collection
weight_norm: 3 parameters, 3 after del, 0 after a collection
spectral_norm: 2 parameters, 2 after del, 0 after a collection
orthogonal: 2 parameters, 2 after del, 0 after a collection
weight_norm, removed: 2 parameters, 0 after del, 0 after a collection
TXT
echo "as described: parametrized weights stay until a collection"
