from __future__ import annotations

import gc
import inspect

import pytest
import torch
from torch import nn

from gpumodels.wraps import Wraps
from modules import Backbone, attached

WRAPPED = [
    (torch.UntypedStorage, "from_file"),
    (nn.Module, "load_state_dict"),
    (nn.Module, "_apply"),
    (nn.Module, "__setstate__"),
]


def test_torch_is_left_as_it_was() -> None:
    before = [inspect.getattr_static(owner, name) for owner, name in WRAPPED]
    registering = torch.nn.modules.module
    with attached():
        assert [inspect.getattr_static(owner, name) for owner, name in WRAPPED] != before
        assert len(registering._global_module_registration_hooks) == 1
    assert [inspect.getattr_static(owner, name) for owner, name in WRAPPED] == before
    assert "from_file" not in vars(torch.UntypedStorage)
    assert not registering._global_module_registration_hooks
    assert not registering._global_parameter_registration_hooks
    assert not registering._global_buffer_registration_hooks


def test_a_wrapped_function_has_its_originals_signature_name_and_doc() -> None:
    original = nn.Module.load_state_dict
    with attached():
        wrapper = nn.Module.load_state_dict
        assert inspect.signature(wrapper) == inspect.signature(original)
        assert (wrapper.__name__, wrapper.__doc__) == (original.__name__, original.__doc__)
        assert wrapper.__wrapped__ is original  # type: ignore[attr-defined]


def test_a_wrapped_functions_exceptions_are_the_originals() -> None:
    with attached(), pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
        nn.Linear(2, 2).load_state_dict({})


def test_a_wrap_that_someone_wrapped_again_is_left_in_place() -> None:
    class Owner:
        def method(self) -> str:
            return "original"

    wraps = Wraps()
    wraps.wrap(Owner, "method", lambda original: lambda self: original(self) + " wrapped")
    ours = Owner.method
    Owner.method = lambda self: ours(self) + " again"  # type: ignore[method-assign]
    wraps.unwrap_all()
    assert Owner().method() == "original wrapped again"


def test_the_sweep_finds_modules_made_before_and_only_those() -> None:
    model = Backbone()
    with attached() as sidecar:
        assert len(sidecar.registry) == 0
        sidecar.hooks.sweep()
        known = {id(ref()) for ref in sidecar.registry.refs()}
        assert {id(module) for module in model.modules()} <= known


def test_the_registry_keeps_nothing_alive() -> None:
    with attached() as sidecar:
        model = Backbone()
        assert len(sidecar.registry) == len(list(model.modules()))
        version = sidecar.registry.version
        del model
        gc.collect()
        assert len(sidecar.registry) == 0
        assert sidecar.registry.version > version


def test_a_failure_inside_a_hook_does_not_reach_the_host() -> None:
    with attached() as sidecar, pytest.MonkeyPatch.context() as patch:

        def fails(*_: object) -> None:
            raise RuntimeError("inside the sidecar")

        patch.setattr(sidecar.registry, "add", fails)
        patch.setattr(sidecar.provenance, "origin_of", fails)
        model = nn.Sequential(nn.Linear(2, 2))
        model.load_state_dict(model.state_dict())
        model.half()
        assert sidecar.failures.count > 0


def test_what_the_host_saves_is_byte_for_byte_the_same(tmp_path: object) -> None:
    import io

    def saved(model: nn.Module) -> bytes:
        stream = io.BytesIO()
        torch.save(model.state_dict(), stream)
        return stream.getvalue()

    torch.manual_seed(1)
    model = Backbone()
    before = saved(model)
    with attached() as sidecar:
        sidecar.hooks.sweep()
        model.load_state_dict(model.state_dict())
        sidecar.scan()
        assert saved(model) == before
