#!/usr/bin/env bash
# torch 2.13.0: Module.compile() of a module whose forward is torch.nn's own compiles nothing, and says nothing.
#
# Module.compile() compiles the module's _call_impl (torch/nn/modules/module.py). Its frame is torch's own, and where the first
# forward that it comes to is torch's own too, as Sequential's, Linear's or TransformerEncoderLayer's, no graph is captured: the
# backend is never called, and the module runs as before, without a warning. Only fullgraph=True tells: RuntimeError, "found no compiled
# frames". torch.compile(module) of the same modules captures a graph, and so does Module.compile() of a module with a forward of the
# user's around them. The docstring says that "`__call__` method is compiled". Who compiles a Sequential in place measures eager mode.
#
# Needs: Python 3.11.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3.11 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 >&2
cd "$place"
cat >host.py <<'PY'
import warnings

import torch
from torch import nn

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Failed to initialize NumPy")
graphs = []


def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, tensor):
        return self.layers(tensor)


class Named(nn.Sequential):
    """A class of the user's without a forward."""


def report(name, make):
    counts = []
    for in_place in (True, False):
        torch._dynamo.reset()
        graphs.clear()
        module = compiled = make().eval()
        if in_place:
            module.compile(backend=backend)
        else:
            compiled = torch.compile(module, backend=backend)
        with torch.no_grad():
            compiled(torch.ones(2, 8))
        counts.append(len(graphs))
    print(f"{name}: graphs by module.compile() {counts[0]}, by torch.compile(module) {counts[1]}")


report("Linear", lambda: nn.Linear(8, 8))
report("Sequential", lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU()))
report("a subclass of Sequential", lambda: Named(nn.Linear(8, 8), nn.ReLU()))
report("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(8, 2))
report("a module with a forward of its own", Own)

module = nn.Sequential(nn.Linear(8, 8))
module.compile(backend=backend, fullgraph=True)
try:
    module(torch.ones(2, 8))
except RuntimeError as error:
    words = "found no compiled frames"
    print("fullgraph=True:", words if words in str(error) else error)
PY
"$place/venv/bin/python" host.py 2>errors.txt | tee out.txt || { cat errors.txt >&2; exit 1; }
diff out.txt - <<'TXT'
Linear: graphs by module.compile() 0, by torch.compile(module) 1
Sequential: graphs by module.compile() 0, by torch.compile(module) 1
a subclass of Sequential: graphs by module.compile() 0, by torch.compile(module) 1
TransformerEncoderLayer: graphs by module.compile() 0, by torch.compile(module) 1
a module with a forward of its own: graphs by module.compile() 1, by torch.compile(module) 1
fullgraph=True: found no compiled frames
TXT
echo "as described: compiled in place, torch's own modules are not compiled"
