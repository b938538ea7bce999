"""Words that don't name a model: folders in which models are kept, and roles of modules."""

from __future__ import annotations

from typing import Final

_MODEL_FOLDERS: Final = """
loras lora lycoris vaes vae_approx checkpoints stable-diffusion diffusion_models unets controlnets t2i_adapter upscale_models
latent_upscale_models esrgan realesrgan text_encoders clip clip_vision embeddings hypernetworks audio_encoders style_models gligen
photomaker ipadapter animatediff_models motion_modules
"""
"""The model folders of ComfyUI and similar programs."""

_OUTPUT_FOLDERS: Final = """
output outputs out results result runs run logs log lightning_logs export exports saved saved_models save trained pretrained
pretrained_models artifacts build dist
"""
"""Folders into which programs write results."""

_USER_FOLDERS: Final = """
home users root mnt media data datasets disk volume volumes opt srv var workspace work working content kaggle input inputs
downloads download desktop documents cache .cache shared files projects repos hub huggingface torch pytorch app src
"""
"""Folders of users and of the system."""

FOLDER_NAMES: Final = frozenset((_MODEL_FOLDERS + _OUTPUT_FOLDERS + _USER_FOLDERS).split())
"""Names of directories, in lower case, that don't name a model."""

_ROLES: Final = """
encoder decoder backbone head net network module generator discriminator teacher student actor critic policy base main default
first second trunk stem body neck embedder embeddings embedding classifier untitled unnamed lora adapter text image audio video
llm lm
"""

ROLE_NAMES: Final = frozenset(_ROLES.split())
"""Names of modules, in lower case, that only describe their role."""
