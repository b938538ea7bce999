"""Folders for models of any kind are known in any spelling, and what only resembles them isn't."""

from __future__ import annotations

import pytest

from gpumodels_shared.no_names import is_folder_for_anything

FOLDERS = "Stable-diffusion StableDiffusion text_encoders TextEncoders VAE runs12 data1 output_dir model_dir New-folder"


@pytest.mark.parametrize("name", FOLDERS.split())
def test_a_folder_for_anything_is_known_in_any_spelling(name: str) -> None:
    assert is_folder_for_anything(name)


@pytest.mark.parametrize("name", ["clip2", "stable-diffusion-v1-5", "llm7", "dir", "my_dir", "database", "12", ""])
def test_what_only_resembles_one_may_be_a_name(name: str) -> None:
    assert not is_folder_for_anything(name)
