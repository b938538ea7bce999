"""Words that name no model: of places where models are kept, and of parts that modules play."""

from __future__ import annotations

from typing import Final

_OF_TREES: Final = """
loras lora lycoris vaes vae_approx checkpoints stable-diffusion diffusion_models unets controlnets t2i_adapter upscale_models
latent_upscale_models esrgan realesrgan text_encoders clip clip_vision embeddings hypernetworks audio_encoders style_models gligen
photomaker ipadapter animatediff_models motion_modules
"""
"""ComfyUI's and others' folders of models."""

_OF_PROGRAMS: Final = """
output outputs out results result runs run logs log lightning_logs export exports saved saved_models save trained pretrained
pretrained_models artifacts build dist
"""
"""Where programs put things."""

_OF_PEOPLE: Final = """
home users root mnt media data datasets disk volume volumes opt srv var workspace work working content kaggle input inputs
downloads download desktop documents cache .cache shared files projects repos hub huggingface torch pytorch app src
"""
"""Where people and machines keep things."""

PLACES: Final = frozenset((_OF_TREES + _OF_PROGRAMS + _OF_PEOPLE).split())
"""Directories, in lower case, that are named for what is kept there."""

_OF_PARTS: Final = """
encoder decoder backbone head net network module generator discriminator teacher student actor critic policy base main default
first second trunk stem body neck embedder embeddings embedding classifier untitled unnamed lora adapter text image audio video
llm lm
"""

ROLES: Final = frozenset(_OF_PARTS.split())
"""What modules are called for the part that they play, in lower case."""
