"""Quantized models: HQQ 0.2.8, optimum-quanto 0.2.7, compressed-tensors 0.20 and bitsandbytes, with transformers 5 and alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from library_hosts import a_library_host, needs, rows_of

pytestmark = [pytest.mark.timeout(300)]

A_SMALL_LLAMA = """
import transformers
sizes = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, intermediate_size=256)
made = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=512, **sizes))
parameters = elements_of(made)
made.save_pretrained("small-llama")
del made
gc.collect()
long_ago()
"""


@needs("hqq")
@pytest.mark.parametrize(("bits", "packed"), [(8, 1.0), (4, 0.5), (3, 0.4), (2, 0.25)])
def test_hqqs_layers_count_their_packed_bytes_and_the_parameters_that_they_were_made_from(
    tmp_path: Path, bits: int, packed: float
) -> None:
    with a_library_host(tmp_path) as host:
        host.tell(f"""
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(256, 512)
        self.b = nn.Linear(512, 256)
model = Net()
parameters = elements_of(model)
config = BaseQuantizeConfig(nbits={bits}, group_size=64)
for name in "ab":
    setattr(model, name, HQQLinear(getattr(model, name), config, compute_dtype=torch.float32, device="cpu"))
gc.collect()
""")
        size = host.tell("distinct(*(x for m in (model.a, model.b) for x in (m.W_q, m.bias, m.meta['scale'], m.meta['zero'])))")
        (row,) = rows_of(host, 1, lambda models: models[0].resident_bytes == size)
        assert (row.class_name, row.parameters) == ("Net", host.tell("parameters"))
        assert row.dtypes["int32" if bits == 3 else "uint8"] == pytest.approx(2 * 256 * 512 * packed, rel=0.01)


@needs("hqq", "transformers")
def test_a_model_that_hqq_saved_and_loads_is_a_row_with_all_of_its_parameters(tmp_path: Path) -> None:
    with a_library_host(tmp_path) as host:
        host.tell(A_SMALL_LLAMA)
        host.tell("""
from hqq.core.quantize import BaseQuantizeConfig
from hqq.models.hf.base import AutoHQQHFModel
made = transformers.AutoModelForCausalLM.from_pretrained("small-llama")
AutoHQQHFModel.quantize_model(made, quant_config=BaseQuantizeConfig(4, 64), compute_dtype=torch.float32, device="cpu")
AutoHQQHFModel.save_quantized(made, "small-llama-hqq")
del made
long_ago()
model = AutoHQQHFModel.from_quantized("small-llama-hqq", compute_dtype=torch.float32, device="cpu")
gc.collect()
""")
        (row,) = rows_of(host, 1)
        assert (row.class_name, row.kind, row.parameters) == ("LlamaForCausalLM", "llm", host.tell("parameters"))


@needs("optimum-quanto")
@pytest.mark.parametrize("weights", ["qint8", "qint4", "qint2", "qfloat8"])
def test_quantos_tensors_count_their_parts_and_the_parameters_that_they_stand_for(tmp_path: Path, weights: str) -> None:
    with a_library_host(tmp_path) as host:
        host.tell(f"""
import optimum.quanto as quanto
model = nn.Sequential(nn.Linear(512, 1024), nn.Linear(1024, 128))
parameters = elements_of(model)
quanto.quantize(model, weights=quanto.{weights})
quanto.freeze(model)
gc.collect()

def parts(tensor):
    named = [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]] if hasattr(tensor, "__tensor_flatten__") else []
    return [inner for part in named for inner in parts(part)] or [tensor]
""")
        size = host.tell("distinct(*(part for tensor in [*model.parameters(), *model.buffers()] for part in parts(tensor)))")
        (row,) = rows_of(host, 1, lambda models: models[0].resident_bytes == size)
        assert (row.class_name, row.parameters) == ("Sequential", host.tell("parameters"))


@needs("compressed-tensors", "transformers")
def test_weights_that_compressed_tensors_packs_count_as_many_parameters_as_before(tmp_path: Path) -> None:
    with a_library_host(tmp_path) as host:
        host.tell(A_SMALL_LLAMA)
        host.tell("""
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config
model = transformers.AutoModelForCausalLM.from_pretrained("small-llama")
weights = QuantizationArgs(num_bits=4, type="int", symmetric=True, group_size=128, strategy="group")
groups = {"all": QuantizationScheme(targets=["Linear"], weights=weights)}
config = QuantizationConfig(config_groups=groups, ignore=["lm_head"], format="pack-quantized")
apply_quantization_config(model, config)
ModelCompressor(quantization_config=config).compress_model(model)
gc.collect()
""")
        size = host.tell("held_by(model)")
        (row,) = rows_of(host, 1, lambda models: models[0].resident_bytes == size)
        assert (row.class_name, row.parameters) == ("LlamaForCausalLM", host.tell("parameters"))


@needs("optimum-quanto", "bitsandbytes", "transformers")
@pytest.mark.parametrize(
    "config",
    [
        "BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type='nf4', bnb_4bit_use_double_quant=True)",
        "BitsAndBytesConfig(load_in_8bit=True)",
        "QuantoConfig(weights='int8')",
        "QuantoConfig(weights='int4')",
        "QuantoConfig(weights='float8')",
    ],
)
def test_a_model_that_is_quantized_while_it_is_loaded_keeps_its_name_and_its_parameters(tmp_path: Path, config: str) -> None:
    with a_library_host(tmp_path) as host:
        host.tell(A_SMALL_LLAMA)
        host.tell(f"""
config = transformers.{config}
model = transformers.AutoModelForCausalLM.from_pretrained("small-llama", quantization_config=config, device_map="cpu")
gc.collect()
""")
        (row,) = rows_of(host, 1, lambda models: 0 < models[0].resident_bytes < 1_000_000)
        assert (row.name, row.class_name, row.kind) == ("small-llama", "LlamaForCausalLM", "llm")
        assert row.parameters == host.tell("parameters")
