"""Vision: Ultralytics 8.4, timm 1.0 and open_clip 3.3."""

from __future__ import annotations

from pathlib import Path

import pytest

from library_hosts import a_library_host, needs, rows_of

pytestmark = [pytest.mark.timeout(300)]

PLAIN_TENSORS = "distinct(*(module.stride for module in model.modules() if torch.is_tensor(vars(module).get('stride'))))"
"""The strides of a detector and of its head are plain attributes."""


@needs("ultralytics")
def test_each_file_of_a_training_run_of_ultralytics_is_a_row_with_its_bytes(tmp_path: Path) -> None:
    with a_library_host(tmp_path) as host:
        host.tell("""
from ultralytics import YOLO
made = YOLO("yolo11n.yaml")
os.makedirs("runs/detect/train/weights")
for name in ("best", "last"):
    made.save(f"runs/detect/train/weights/{name}.pt")
del made
gc.collect()
long_ago()
kept = [YOLO(f"runs/detect/train/weights/{name}.pt") for name in ("best", "last")]
model = kept[0].model
gc.collect()
""")
        size = host.tell(f"held_by(model) + {PLAIN_TENSORS}")
        found = rows_of(host, 2)
        assert [(row.class_name, row.resident_bytes) for row in found] == [("YOLO", size)] * 2
        assert {row.parameters for row in found} == {host.tell("elements_of(model)")}
        assert sorted(Path(file).name for row in found for file in row.files) == ["best.pt", "last.pt"]
        assert len({row.name for row in found}) == 2


@needs("timm", "torchvision")
def test_a_model_of_timm_is_called_by_its_checkpoint(tmp_path: Path) -> None:
    with a_library_host(tmp_path) as host:
        host.tell("""
import timm
from safetensors.torch import save_file
save_file(timm.create_model("resnet18").state_dict(), "resnet18.mine.safetensors")
long_ago()
model = timm.create_model("resnet18", checkpoint_path="resnet18.mine.safetensors")
gc.collect()
""")
        (row,) = rows_of(host, 1)
        assert (row.name, row.class_name) == ("resnet18.mine", "ResNet")
        assert (row.resident_bytes, row.parameters) == (host.tell("held_by(model)"), host.tell("elements_of(model)"))


@needs("open_clip_torch", "torchvision")
def test_a_model_of_open_clip_is_one_row_of_kind_clip(tmp_path: Path) -> None:
    with a_library_host(tmp_path) as host:
        host.tell("""
import json, open_clip
vision = dict(image_size=32, layers=2, width=64, patch_size=8, head_width=16)
text = dict(context_length=16, vocab_size=500, width=64, heads=2, layers=2)
os.makedirs("configs")
json.dump(dict(embed_dim=32, vision_cfg=vision, text_cfg=text), open("configs/small-clip.json", "w"))
open_clip.add_model_config("configs")
torch.save(open_clip.create_model("small-clip").state_dict(), "mine.pt")
long_ago()
model = open_clip.create_model("small-clip", pretrained="mine.pt")
gc.collect()
""")
        (row,) = rows_of(host, 1)
        assert (row.name, row.class_name, row.kind) == ("mine", "CLIP", "clip")
        assert (row.resident_bytes, row.parameters) == (host.tell("held_by(model)"), host.tell("elements_of(model)"))
