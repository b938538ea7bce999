"""The scenario that the idea was born with, in a real child process that loads real files."""

from __future__ import annotations

import re
from pathlib import Path

from gpumodels_shared.schema import Model
from gpumodels_shared.units import describe_model
from hosts import FAKES_SETUP, WAN_SETUP, Host, a_host

WAN_FILE = "Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors"
LOAD_WAN = f"wan = loaded(WanModel, saved(WanModel(), folder + '/{WAN_FILE}', {{'model_type': 'Wan2_2-T2V-A14B-HIGH'}}))"


def a_wan_host_setup(tmp_path: Path) -> str:
    return WAN_SETUP + f"\nfolder = {str(tmp_path)!r}\n"


def settled_on_gpus(model: Model) -> bool:
    """All of it is read as on a GPU: a fake tensor says `meta` for as long as its mode is inside a kernel of the host's."""
    return "cpu" not in model.bytes_by_device and model.offloaded_bytes == 0


def fits(split: Model, whole: Model) -> bool:
    """No part of it is read as being nowhere."""
    return split.resident_bytes == whole.resident_bytes


def named(models: tuple[Model, ...], name: str) -> Model:
    return next(model for model in models if model.name == name)


def display(model: Model) -> str:
    return describe_model(model.name, model.kind, model.resident_bytes, model.layers)


def test_a_wan_model_of_600_submodules_is_one_row_with_its_bytes(tmp_path: Path) -> None:
    with a_host(tmp_path / "gpm", a_wan_host_setup(tmp_path)) as host:
        host.tell(LOAD_WAN)
        layers = int(host.tell("sum(1 for m in wan.modules() if list(m.parameters()) or list(m.buffers()))"))
        # A look while it was being built, on a busy machine, saw a part of it.
        (model,) = host.models_when(lambda models: [model.layers for model in models] == [layers])

        assert host.tell("len(list(wan.modules()))") > 600
        assert re.fullmatch(r"Wan2_2-T2V-A14B-HIGH \(checkpoint, [\d.]+ MB, \d+ layers\)", display(model))
        assert model.resident_bytes == host.tell("distinct_bytes(wan)")
        assert model.bytes_by_device == {"cpu": model.resident_bytes}
        assert model.parameters == host.tell("sum(p.numel() for p in wan.parameters())")
        assert model.confidence >= 0.95
        assert [Path(path).name for path in model.files] == [WAN_FILE]
        assert model.layers == layers


def test_checkpoint_vae_lora_and_text_encoder_are_four_rows_the_largest_first(tmp_path: Path) -> None:
    with a_host(tmp_path / "gpm", a_wan_host_setup(tmp_path)) as host:
        load_four(host)
        models = host.models_when(lambda models: len(models) == 4)

        assert [(model.name, model.kind) for model in models] == [
            ("Wan2_2-T2V-A14B-HIGH", "checkpoint"),
            ("umt5-xxl-enc", "clip"),
            ("Wan2_1_VAE", "vae"),
            ("MyLoRA", "lora"),
        ]
        assert [model.resident_bytes for model in models] == sorted((m.resident_bytes for m in models), reverse=True)
        for model, variable in zip(models, ("wan", "text", "vae", "lora"), strict=True):
            assert model.resident_bytes == host.tell(f"distinct_bytes({variable})")
        assert named(models, "MyLoRA").metadata["ss_network_dim"] == "16"


def load_four(host: Host) -> None:
    host.tell(LOAD_WAN)
    host.tell("vae = loaded(AutoencoderKLWan, saved(AutoencoderKLWan(), folder + '/Wan2_1_VAE_bf16.safetensors'))")
    host.tell("text = loaded(UMT5EncoderModel, saved(UMT5EncoderModel(), folder + '/umt5-xxl-enc-fp8_e4m3fn.safetensors'))")
    host.tell("lora = loaded(LoRANetwork, saved(LoRANetwork(), folder + '/MyLoRA.safetensors', {'ss_network_dim': '16'}))")


def test_an_unloaded_model_is_gone_within_a_tick(tmp_path: Path) -> None:
    with a_host(tmp_path / "gpm", a_wan_host_setup(tmp_path)) as host:
        load_four(host)
        host.models_when(lambda models: len(models) == 4)
        host.tell("del wan, vae, text, lora")
        host.wait_for_ticks(1)

        assert host.snapshot().models == ()


def test_without_safetensors_there_are_class_names_exact_bytes_and_one_warning(tmp_path: Path) -> None:
    without = """
import sys, logging, importlib.util
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "safetensors":
            raise ModuleNotFoundError("No module named 'safetensors'", name="safetensors")
sys.meta_path.insert(0, Hidden())
logged = []
class Keep(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())
logging.getLogger("gpumodels").addHandler(Keep())
"""
    with a_host(tmp_path / "gpm", without + WAN_SETUP.replace("from safetensors.torch import load_file, save_file", "")) as host:
        host.tell("wan = WanModel()")
        (model,) = host.models_when(lambda models: len(models) == 1)

        assert model.name == model.class_name == "WanModel"
        assert model.confidence < 0.6
        assert model.resident_bytes == host.tell("distinct_bytes(wan)")
        assert len(host.snapshot().warnings) == 1
        assert "safetensors is not installed" in host.snapshot().warnings[0]
        host.wait_for_ticks(2)
        assert host.tell("sum('safetensors is not installed' in line for line in logged)") == 1
        assert host.tell("'safetensors' in sys.modules") is False


def test_blocks_moved_off_the_device_leave_an_exact_split(tmp_path: Path) -> None:
    with a_host(tmp_path / "gpm", WAN_SETUP + FAKES_SETUP) as host:
        host.tell("wan = put(WanModel(), 'cuda:0')")
        (whole,) = host.models_when(lambda models: len(models) == 1 and settled_on_gpus(models[0]))
        assert whole.offloaded_bytes == 0
        assert whole.on_device_bytes == host.tell("distinct_bytes(wan)")

        host.tell("for block in list(wan.blocks)[:25]: put(block, 'cpu')")
        (split,) = host.models_when(lambda models: models[0].bytes_by_device.get("cpu", 0) > 0 and fits(models[0], whole))

        assert split.id == whole.id
        assert split.device == "cuda:0"
        assert split.bytes_by_device == {
            "cuda:0": host.tell("distinct_bytes(wan, device='cuda:0')"),
            "cpu": host.tell("distinct_bytes(wan, device='cpu')"),
        }
        assert split.offloaded_bytes == host.tell("distinct_bytes(*list(wan.blocks)[:25])")
        assert split.resident_bytes == whole.resident_bytes


def test_two_fake_gpus_each_have_their_own_list(tmp_path: Path) -> None:
    with a_host(tmp_path / "gpm", WAN_SETUP + FAKES_SETUP) as host:
        host.tell("wan, vae = put(WanModel(), 'cuda:0'), put(AutoencoderKLWan(), 'cuda:1')")
        models = host.models_when(lambda models: len(models) == 2 and all(settled_on_gpus(m) for m in models))

        assert [(model.class_name, list(model.bytes_by_device)) for model in models] == [
            ("WanModel", ["cuda:0"]),
            ("AutoencoderKLWan", ["cuda:1"]),
        ]
        sums = {device.device: device.models_bytes for device in host.snapshot().devices}
        assert sums == {"cuda:0": host.tell("distinct_bytes(wan)"), "cuda:1": host.tell("distinct_bytes(vae)")}
        assert host.tell("torch.cuda.is_initialized()") is False


def test_a_model_loaded_before_the_sidecar_started_still_has_its_files_name(tmp_path: Path) -> None:
    late = WAN_SETUP.replace("gpumodels.start()\n", "") + f"\nfolder = {str(tmp_path)!r}\n"
    with a_host(tmp_path / "gpm", late) as host:
        host.tell(f"path = saved(WanModel(), folder + '/{WAN_FILE}')")
        host.tell("wan = WanModel(); wan.load_state_dict(load_file(path), assign=True); gpumodels.start()")
        (model,) = host.models_when(lambda models: len(models) == 1)
        assert (model.name, model.name_source) == ("Wan2_2-T2V-A14B-HIGH", "mapped file")

        host.tell("_ = wan.half()")
        (cast,) = host.models_when(lambda models: "float16" in models[0].dtypes)
        assert (cast.id, cast.name, cast.resident_bytes) == (model.id, model.name, model.resident_bytes // 2)


def test_the_host_ends_as_it_would_without_the_sidecar_and_its_file_says_so(tmp_path: Path) -> None:
    with a_host(tmp_path / "gpm", WAN_SETUP) as host:
        host.tell("wan = WanModel()")
        host.models_when(lambda models: len(models) == 1)
        with host.reader() as reader:
            assert host.close() == 0
            assert reader.heartbeat().state.name == "EXITED"
            assert not reader.is_locked()
