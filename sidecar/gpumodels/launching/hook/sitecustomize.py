"""Starts the sidecar in a Python process once that imports torch, and until then does nothing but wait.

`gpumodels run` puts this file's folder, which holds nothing else, in front of PYTHONPATH; `gpumodels enable` puts a copy of the
file into an environment; `gpumodels attach` has it run in a live process. Every Python that starts below the command must
understand it, 2.7 included. It imports nothing that the start of Python has not imported already.
"""

import os
import sys

PACKAGES = "_GPUMODELS_PACKAGES"
"""The environment variable with the folders that hold msgpack, gpumodels_shared and gpumodels, for Pythons without them."""
AT_ONCE = "_GPUMODELS_START"
"""The environment variable with the pid of the process in which the sidecar starts at once, torch or not."""
NAMES = ("msgpack", "gpumodels_shared", "gpumodels")
IMPORTING = "_find_and_load_unlocked"
"""The importlib function that asks finders during an import; `importlib.util.find_spec` asks them without importing anything."""


class GpumodelsTorchFinder:
    """Finds no modules. It stays in `sys.meta_path`, where it tells other copies of this file that the process is served."""

    def __init__(self, folders):
        self.folders = folders
        self.waits = True

    def find_spec(self, name, path=None, target=None):
        """The spec of torch, with a loader that tells the sidecar when torch was executed; of all others, None."""
        if not self.waits:
            return None
        if name == "torch":
            return self.start(name) if _is_an_import() else None
        torch = sys.modules.get("torch")  # found by another finder, which asked us for nothing
        if torch is not None and not getattr(getattr(torch, "__spec__", None), "_initializing", False):
            self.start()
        return None

    def start(self, awaited=None, attached=False):
        """Start the sidecar; the spec of the awaited module, if it is to be loaded by it. What goes wrong is left to torch."""
        self.waits = False
        brought = []
        try:
            _load_packages(self.folders, brought)
            import gpumodels

            if attached:
                gpumodels.sidecar.start_with(None, attached=True)
                return None
            gpumodels.start()
            gpumodels.sidecar.serve_forks()
            if awaited is not None:
                from gpumodels.observing.import_hook import spec_of_awaited

                return spec_of_awaited(awaited)
        except KeyboardInterrupt:
            raise  # the user's, for the host
        except BaseException:  # whatever is wrong with the sidecar, the host goes on, and nothing is printed
            pass
        finally:
            if "msgpack" in brought:  # we keep it to ourselves: a host without msgpack goes on without it
                for name in [name for name in sys.modules if name == "msgpack" or name.startswith("msgpack.")]:
                    del sys.modules[name]
        return None


def install(folders=None, at_once=False):
    """Wait for torch in this process, unless something does already. Never raises."""
    try:
        _install(folders, at_once)
    except KeyboardInterrupt:
        raise
    except BaseException:  # Python starts as it would without us
        pass


def _install(folders, at_once):
    if sys.version_info < (3, 10) or os.environ.get("GPUMODELS") == "0":
        return
    if any(type(finder).__name__ == "GpumodelsTorchFinder" for finder in sys.meta_path):
        return
    if folders is None:
        stated = os.environ.get(PACKAGES)
        folders = stated.split(os.pathsep) if stated else []
    finder = GpumodelsTorchFinder(folders)
    sys.meta_path.insert(0, finder)
    if os.environ.get(AT_ONCE) == str(os.getpid()):
        del os.environ[AT_ONCE]
        at_once = True
    if at_once or "torch" in sys.modules:
        finder.start()


def attach(folders):
    """Start the sidecar in this process, which has run for a while; what came of it, in one word."""
    import threading

    if os.environ.get("GPUMODELS") == "0":
        return "off"
    if any(thread.name == "gpumodels" for thread in threading.enumerate()):
        return "running"
    GpumodelsTorchFinder(folders).start(attached=True)
    return "started" if any(thread.name == "gpumodels" for thread in threading.enumerate()) else "failed"


def _is_an_import():
    """Whether our caller's caller was called for an import: by importlib's `_find_spec`, itself called by IMPORTING."""
    requester = sys._getframe(2).f_back
    return requester is not None and requester.f_code.co_name == IMPORTING


def _load_packages(folders, brought):
    """Load from these folders what this Python has not installed, and nothing else. Adds the names to `brought`."""
    from importlib.util import find_spec, module_from_spec, spec_from_file_location

    def is_there(name):
        if name in sys.modules:
            return True
        spec = find_spec(name)
        return spec is not None and spec.origin is not None  # a folder that is called so is not the package

    missing = [name for name in NAMES if not is_there(name)]
    if "gpumodels" in missing and "gpumodels_shared" not in missing:
        missing = [name for name in NAMES if name != "msgpack" or name in missing]  # both of the same version
    for name, folder in zip(NAMES, folders):  # Python 2 knows no `strict`
        if name not in missing:
            continue
        package = os.path.join(folder, name)
        spec = spec_from_file_location(
            name,
            os.path.join(package, "__init__.py"),
            submodule_search_locations=[package],
        )
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        brought.append(name)


def _give_way():
    """Leave `sys.path` as it would be without us, and run the `sitecustomize` that we hid. Its errors are its own."""
    folder = os.path.dirname(__file__)
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    sys.path_importer_cache.pop(folder, None)
    current = sys.modules.get("sitecustomize")
    if current is None or current.__dict__ is globals():
        sys.modules.pop("sitecustomize", None)
        import sitecustomize  # type: ignore[import-not-found]  # if there is none, `site` takes the ImportError as it would have

        return
    # Another launcher's sitecustomize is running us in its own way, in place of the one that we hide from it.
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    for entry in list(sys.path):
        spec = PathFinder.find_spec("sitecustomize", [entry])
        if spec is not None and spec.loader is not None and spec.origin != getattr(current, "__file__", None):
            spec.loader.exec_module(module_from_spec(spec))
            return


if __name__ == "sitecustomize":
    install()
    _give_way()
