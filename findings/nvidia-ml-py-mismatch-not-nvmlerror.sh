#!/usr/bin/env bash
# nvidia-ml-py 13.615.71: where the driver is older than the package, asking for a GPU's processes raises what `except NVMLError` misses.
#
# nvmlDeviceGetComputeRunningProcesses, its graphics and its MPS counterpart call the third version of their C function. A driver library
# that exports only the second version makes the wrapper (pynvml.py, throwOnVersionMismatch) turn NVMLError_FunctionNotFound, which is an
# NVMLError, into NVMLLibraryMismatchError, which derives from Exception alone. The README calls NVMLError the base class of the
# exceptions, and its example catches that class; a program that does so ends here, though the other failures of the same call reach
# its handler. The function with `_v2` in its name, which the exception's text recommends, works with that library; the one with `_v3`
# raises NVMLError_FunctionNotFound.
#
# The driver's library is a small one made here, so that no GPU is needed. It has one GPU with one process.
# Needs: Python 3.11, gcc, Linux.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3.11 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet nvidia-ml-py==13.615.71 >&2
cd "$place"
cat >nvml.c <<'C'
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_t;
int nvmlInitWithFlags(unsigned int flags) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) { *device = (void *)1; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned int *count, process_t *list) {
    if (*count < 1) { *count = 1; return 7; } /* NVML_ERROR_INSUFFICIENT_SIZE */
    *count = 1;
    list[0] = (process_t){4711, 1 << 20, 0xFFFFFFFFu, 0xFFFFFFFFu};
    return 0;
}
C
gcc -shared -fPIC -o libnvidia-ml.so.1 nvml.c
cat >host.py <<'PY'
import pynvml

pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
for name in ("", "_v2", "_v3"):
    ask = getattr(pynvml, "nvmlDeviceGetComputeRunningProcesses" + name)
    try:
        print(ask.__name__, [(process.pid, process.usedGpuMemory) for process in ask(gpu)])
    except pynvml.NVMLError as error:
        print(ask.__name__, "raised the NVMLError", type(error).__name__)
    except Exception as error:
        print(ask.__name__, "raised", type(error).__name__, "whose bases are", [base.__name__ for base in type(error).__bases__])
PY
LD_LIBRARY_PATH="$place" "$place/venv/bin/python" host.py | tee out.txt
diff out.txt - <<'TXT'
nvmlDeviceGetComputeRunningProcesses raised NVMLLibraryMismatchError whose bases are ['Exception']
nvmlDeviceGetComputeRunningProcesses_v2 [(4711, 1048576)]
nvmlDeviceGetComputeRunningProcesses_v3 raised the NVMLError NVMLError_FunctionNotFound
TXT
echo "as described: the unversioned function's failure isn't an NVMLError"
