"""Lightning's own trainer around a network whose weights are from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from library_hosts import needs
from modules import attached

lightning = pytest.importorskip("lightning")
pytestmark = [needs("lightning"), pytest.mark.filterwarnings("ignore")]  # those of its own


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128))


def test_the_network_in_a_lightning_module_is_named_while_it_is_fitted(tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / "encoder-v3.safetensors")
    seen: list[tuple[str, int]] = []

    class Task(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network()
            self.network.load_state_dict(load_file(tmp_path / "encoder-v3.safetensors"))

        def training_step(self, batch: torch.Tensor, _number: int) -> torch.Tensor:
            seen.extend((model.name, sum(model.bytes_by_device.values())) for model in host.models())
            loss: torch.Tensor = self.network(batch).square().mean()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    with attached() as host:
        trainer = lightning.Trainer(
            max_steps=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        batches: Any = torch.ones(2, 128)
        trainer.fit(Task(), torch.utils.data.DataLoader(batches))
    assert seen == [("encoder-v3", 2 * (128 * 128 + 128) * 4)]
