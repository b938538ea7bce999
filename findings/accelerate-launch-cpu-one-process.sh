#!/usr/bin/env bash
# accelerate 1.15.0: `accelerate launch --cpu --num_processes=4` starts one process, without a word.
#
# Every way to start several processes is taken only without --cpu (accelerate/commands/launch.py); with it the simple one is, in
# which the number of processes is set aside, and the process has no RANK and no WORLD_SIZE either. Whoever tells ranks by the
# environment sees a plain process, and whoever measures on the CPU what is to run in four processes measures one.
#
# Needs: Python 3.11.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3.11 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 accelerate==1.15.0 >&2
cd "$place"
cat >host.py <<'PY'
import os

print("rank", os.environ.get("RANK"), "of", os.environ.get("WORLD_SIZE"))
PY
HF_HOME="$place" "$place/venv/bin/accelerate" launch --cpu --num_processes=4 host.py 2>errors.txt | tee out.txt || { cat errors.txt >&2; exit 1; }
diff out.txt - <<'TXT'
rank None of None
TXT
grep -c "num_processes" errors.txt && exit 1
echo "one process, and no word about num_processes on stderr"
