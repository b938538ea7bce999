"""What a screen asks the application to show."""

from __future__ import annotations

from textual.message import Message


class ModelAsked(Message):
    """A model: its facts and its layers."""

    def __init__(self, device_key: str, model_key: str) -> None:
        """Args:
        device_key: The device whose bytes count as on; empty for wherever the model runs.
        model_key: `ModelRow.key`.
        """
        super().__init__()
        self.device_key = device_key
        self.model_key = model_key


class ProcessAsked(Message):
    """A process."""

    def __init__(self, process_key: str) -> None:
        super().__init__()
        self.process_key = process_key
