"""Messages by which a screen asks the application to open another one."""

from __future__ import annotations

from textual.message import Message


class ModelRequested(Message):
    """Open a model's facts and layers."""

    def __init__(self, device_key: str, model_key: str) -> None:
        """Args:
        device_key: The device whose bytes count as on; empty for any device that the model is on.
        model_key: `ModelRow.key`.
        """
        super().__init__()
        self.device_key = device_key
        self.model_key = model_key


class DifferenceRequested(Message):
    """Say what differs between the moment before this one and the one that is shown."""

    def __init__(self, at_ns: int) -> None:
        """Args:
        at_ns: Realtime nanoseconds.
        """
        super().__init__()
        self.at_ns = at_ns


class ProcessRequested(Message):
    """Open the screen of a process."""

    def __init__(self, process_key: str) -> None:
        super().__init__()
        self.process_key = process_key
