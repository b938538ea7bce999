#!/usr/bin/env bash
# sinq 0.2.0: once it is installed, every Python of that environment imports torch and transformers at its start and prints a line.
#
# The wheel puts a top-level sitecustomize.py into site-packages, which Python's `site` imports in each process, `pip` and `python -I`
# among them. It imports sinq, and with it torch and transformers, and exchanges PreTrainedModel.from_pretrained and its like before
# the program's first line; `python -c pass` takes the seconds that these imports take. sinq/sinqlinear.py prints to standard output
# whether gemlite was found ("Found gemlite installation..." or "No gemlite installation..."), so that what a script reads of a Python
# process has one line more: a version, JSON, a protocol on a pipe. SINQ_AUTO_PATCH=0 in the environment turns it off, as does
# `python -S`. The package's description on PyPI mentions neither the file nor the variable.
#
# Of sinq's requirements, those that its import needs are installed here.
# Needs: Python 3.11 without a sitecustomize.py of its own.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3.11 -m venv "$place/venv"
python="$place/venv/bin/python"
cd "$place"
unset SINQ_AUTO_PATCH PYTHONPATH
cat >program.py <<'PY'
import sys

print("torch" in sys.modules, "transformers" in sys.modules)
PY
report() {
    echo "$1:"
    shift
    "$@" 2>errors.txt || { cat errors.txt >&2; exit 1; }
}
"$python" -m pip install --quiet torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 datasets==5.2.0 termcolor==3.3.0 >&2
report "before" "$python" program.py >out.txt
"$python" -m pip install --quiet --no-deps sinq==0.2.0 >&2
{
    report "after" "$python" program.py
    report "isolated" "$python" -I program.py
    report "turned off" env SINQ_AUTO_PATCH=0 "$python" program.py
    echo "the method of transformers:"
    "$python" -c 'import transformers; print(transformers.PreTrainedModel.from_pretrained.__module__)' 2>errors.txt | tail -n 1
} >>out.txt
cat out.txt
diff out.txt - <<'TXT'
before:
False False
after:
No gemlite installation, slow inference! Check the SINQ repo for more info!
True True
isolated:
No gemlite installation, slow inference! Check the SINQ repo for more info!
True True
turned off:
False False
the method of transformers:
sinq.hf_io
TXT
echo "as described: sinq is in every Python of its environment, standard output included"
