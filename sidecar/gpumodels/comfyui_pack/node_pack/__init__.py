"""ComfyUI's node pack of gpumodels: it has no nodes. `prestartup_script.py`, beside this, starts the sidecar."""

from typing import Any

NODE_CLASS_MAPPINGS: "dict[str, Any]" = {}
NODE_DISPLAY_NAME_MAPPINGS: "dict[str, str]" = {}
