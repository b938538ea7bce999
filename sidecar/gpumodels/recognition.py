"""Recognising a model whose loading wasn't seen: by its values, in the files that this process read or that its config names.

Nothing is guessed: values agree exactly or not at all, and where they can't be had, names and shapes count only if a single
file has them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from gpumodels.assembling import ADAPTER_PREFIXES, FoundModel
from gpumodels.failures import Failures
from gpumodels.files_read import ReadFile
from gpumodels.naming import Recognised
from gpumodels.provenance import Provenance
from gpumodels.registry import Registry
from gpumodels.safetensors_values import SafetensorsValues, stamp_of
from gpumodels.weak_table import KeyedRef
from gpumodels_shared.file_names import checkpoint_of
from gpumodels_shared.fingerprint import FileValues, Match, best_files, choose_samples, compare, same_names_and_shapes
from gpumodels_shared.schema import Fingerprint, TensorSample

READABLE: Final = (".safetensors", ".sft")
MODULES_PER_STEP: Final = 64
MAX_CONFIG_FILES: Final = 64
MAX_KEPT_TENSORS: Final = 100_000
COARSE_CLOCK_NS: Final = 20_000_000
"""File systems stamp by a clock that ticks every 1 to 10 ms."""
WRAPPED_KEYS: Final = ("base_layer.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "base_model.model.")
"""What wrappers add to the keys of the weights they wrap."""


class Recognition:
    """Compares. Of models it remembers nothing."""

    def __init__(self, registry: Registry, provenance: Provenance, failures: Failures, pause: Callable[[], None]) -> None:
        self._registry = registry
        self._provenance = provenance
        self._failures = failures
        self._pause = pause
        self._checkpoints: dict[str, SafetensorsValues] = {}
        """Headers of what was compared, the latest last."""

    @property
    def version(self) -> tuple[int, int, int]:
        """Equal versions: comparing again would give the same."""
        return self._provenance.version, self._provenance.files_read.version, self._provenance.samples_version

    def recognise(self, found: FoundModel, config_name: str | None, before: Recognised | None = None) -> Recognised:
        """What the model's values tell. Holds no module or tensor while it pauses.

        Args:
            found: the model.
            config_name: what its config says that it was loaded from; the files there are looked at too.
            before: what they told the last time: the same values are as old as they were then, and are compared only with
                files that came since.
        """
        tensors = dict(self._own_tensors(found.core))

        def prepare(keys: Sequence[str]) -> None:
            self._provenance.sample_accelerators(tensor for key in keys if (tensor := _held(*tensors[key])) is not None)

        samples = choose_samples(tensors, lambda key: self._sample(key, *tensors[key]), self._pause, prepare)
        groups = self._provenance.files_read.groups()
        named = _files_of_config(config_name) if config_name else ()
        for path in named:
            known = groups.get(checkpoint_of(path), ())
            if path not in {file.path for file in known}:
                groups[checkpoint_of(path)] = (*known, ReadFile(path, 0, None))
        if not samples:
            return self._by_shapes(found, groups)
        fingerprint = Fingerprint(samples, time.time_ns())
        matches: dict[str, tuple[tuple[int, ...], Match]] = {}
        if before is not None and before.fingerprint is not None and before.fingerprint.samples == samples:
            if before.match is not None and before.match.is_whole:
                return before
            fingerprint = before.fingerprint
            matches.update(before.matches)
        from_config = {checkpoint_of(path) for path in named}
        contradicting = False
        for whole, files in groups.items():
            self._pause()
            match, has_them_all = self._compared(fingerprint, whole, files, matches, whole in from_config)
            contradicting |= has_them_all and match.matched == 0
        best = best_files({whole: match for whole, (_, match) in matches.items() if whole in groups})
        paths = tuple(file.path for whole in best for file in groups[whole])
        return Recognised(fingerprint, paths, matches[best[0]][1] if best else None, contradicting and not best, matches)

    def _compared(
        self,
        fingerprint: Fingerprint,
        whole: str,
        files: Sequence[ReadFile],
        matches: dict[str, tuple[tuple[int, ...], Match]],
        is_from_config: bool,
    ) -> tuple[Match, bool]:
        """How the checkpoint agrees, and whether it has tensors of all these names and shapes (of a config's files only)."""
        numbers = tuple(file.number for file in files)
        known = matches.get(whole)
        if known is not None and known[0] == numbers and not is_from_config:
            return known[1], False
        match, has_them_all = Match(0, len(fingerprint.samples)), False
        if not any(_written_after(file.path, fingerprint.taken_at_ns) for file in files):
            with self._values_of(whole, files) as values:
                if values is not None:
                    with suppress(OSError):  # it went just now: no evidence
                        match = compare(fingerprint, values)
                        wanted = {sample.key: sample.shape for sample in fingerprint.samples}
                        has_them_all = is_from_config and same_names_and_shapes(wanted, values.tensors)
        matches[whole] = numbers, match
        return match, has_them_all

    def _by_shapes(self, found: FoundModel, groups: Mapping[str, Sequence[ReadFile]]) -> Recognised:
        """Its values are out of reach: the one file that has a tensor of its name and shape for each of its own."""
        wanted = dict(self._shapes(found.core))
        fitting: list[str] = []
        for whole, files in groups.items():
            self._pause()
            with self._values_of(whole, files) as values:
                if values is not None and wanted and same_names_and_shapes(wanted, values.tensors):
                    fitting.append(whole)
        return Recognised(None, tuple(file.path for whole in fitting for file in groups[whole]))

    def _own_tensors(self, core: int) -> Iterator[tuple[str, tuple[KeyedRef, str]]]:
        """(key, (module, name)) for every parameter that isn't an adapter's."""
        waiting = [("", core)]
        count = 0
        met = {core}
        while waiting:
            prefix, key = waiting.pop()
            ref = self._registry.ref(key)
            module = ref() if ref is not None else None
            if ref is None or module is None:
                continue
            for name, tensor in list(module.__dict__["_parameters"].items()):
                if tensor is not None and not name.startswith(ADAPTER_PREFIXES):
                    yield f"{prefix}{name}", (ref, name)
            for name, child in list(module.__dict__["_modules"].items()):
                if child is not None and id(child) not in met and not name.startswith(ADAPTER_PREFIXES):
                    met.add(id(child))
                    inner = f"{prefix}{name}."
                    if inner.endswith(WRAPPED_KEYS):
                        inner = prefix if not inner.endswith("base_model.model.") else inner[: -len("base_model.model.")]
                    waiting.append((inner, id(child)))
            module = tensor = child = None
            count += 1
            if count % MODULES_PER_STEP == 0:
                self._pause()

    def _sample(self, key: str, ref: KeyedRef, name: str) -> TensorSample | None:
        tensor = _held(ref, name)
        sample = None if tensor is None else self._provenance.sample_of(tensor)
        return None if sample is None else TensorSample(key, *sample)

    def _shapes(self, core: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for key, (ref, name) in self._own_tensors(core):
            tensor = _held(ref, name)
            if tensor is not None:
                yield key, tuple(tensor.shape)

    @contextmanager
    def _values_of(self, whole: str, files: Sequence[ReadFile]) -> Iterator[FileValues | None]:
        """The checkpoint's values: as they were sampled, or by reading the files again; None where neither can be."""
        if len(files) == 1 and files[0].values is not None:
            yield files[0].values
            return
        opened = self._opened(whole, tuple(file.path for file in files))
        try:
            yield opened
        finally:
            if opened is not None:
                opened.close()

    def _opened(self, whole: str, paths: tuple[str, ...]) -> SafetensorsValues | None:
        """Headers are kept by checkpoint: many models are compared with the same files."""
        known = self._checkpoints.pop(whole, None)
        try:
            if not all(path.endswith(READABLE) for path in paths):
                return None
            if known is None or known.stamps != tuple(stamp_of(path) for path in paths):
                known = SafetensorsValues(paths, self._pause)
        except (OSError, ValueError):
            return None  # it went, changed, or isn't what its name says: no evidence
        self._checkpoints[whole] = known
        while sum(len(values.tensors) for values in self._checkpoints.values()) > MAX_KEPT_TENSORS:
            self._checkpoints.pop(next(iter(self._checkpoints)))
        return known


def _held(ref: KeyedRef, name: str) -> Any:
    """The module's parameter of this name, as long as both live."""
    module = ref()
    return None if module is None else module.__dict__["_parameters"].get(name)


def _written_after(path: str, moment_ns: int) -> bool:
    """Whether the file is younger than the values: then they were saved to it, not loaded from it."""
    try:
        return os.stat(path).st_mtime_ns > moment_ns - COARSE_CLOCK_NS
    except OSError:
        return False  # it was removed after it was read


def _files_of_config(stated: str) -> tuple[str, ...]:
    """The safetensors files in the directory that a config was loaded from, and one level below it; of the hub, in its cache."""
    stated = stated.strip()
    roots = [Path(stated)] if os.path.isabs(stated) or stated.startswith(("./", "../")) or Path(stated).is_dir() else []  # noqa: PTH117
    if not roots and stated.count("/") <= 1:
        home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
        cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
        snapshots = cache / f"models--{stated.replace('/', '--')}" / "snapshots"
        roots = sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    found: list[str] = []
    for root in roots:
        if root.suffix in READABLE and root.is_file():
            found.append(os.path.abspath(root))  # noqa: PTH100 — symlinks stay
        elif root.is_dir():
            for directory in (root, *sorted(entry for entry in root.iterdir() if entry.is_dir())):
                found += [os.path.abspath(file) for file in sorted(directory.iterdir()) if file.suffix in READABLE]  # noqa: PTH100
    return tuple(found[:MAX_CONFIG_FILES])
