"""What programs make up is told from what people call something."""

from __future__ import annotations

import random

import pytest

from gpumodels_shared.made_up_names import is_content_digest, is_made_up, is_numbered, without_store_prefix

HEX = "9f86d081884c7d659a2feaa0c55ad015"
UUID = "123e4567-e89b-12d3-a456-426614174000"


@pytest.mark.parametrize(
    "name",
    [
        HEX,
        HEX.upper(),
        f"{HEX}-17",
        f"sha256-{HEX}{HEX}",
        f"SHA256E-s90--{HEX}{HEX}",
        f"{HEX}.{HEX}",
        f"m-{HEX}",
        f"checkpoint_{HEX}",
        UUID,
        UUID.replace("-", "_").upper(),
        f"pvc-{UUID}",
        "955717e8-8726e21a",
        "a1b2c3d4",
        "1a2b3c4",
        "run-20240501_123045-a1b2c3d4",
        "model-a1b2c3d4:v3",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "k51qzi5uqu5dh9ihj4p2v5sl3hxvv27ryx2w0xrsv6jmmqi91t9xp8p9kaipc2",
        "01HZXQ7M3V9WJ2K4N6P8R0S5T7",
        "0c0jhdk4x5ijhxv8vbr7cd3qlyqqvqjq",
        "May01_12-30-45_host",
    ],
)
def test_an_identifier_is_made_up(name: str) -> None:
    assert is_made_up(name)


NAMES = """
2b e4b large-v3 epoch9.5 sd15 v1-5-pruned-emaonly deadbeef deadbeef-merge face2face face_yolov8n 4x-UltraSharp RealESRGAN_x4plus
resnet50-0676ba61 wan22t2v14bhighfp8e4m3fnscaledkj qwen25vl3binstructabliteratedq4km ponyDiffusionV6XLv6StartWithThisOneTurboDPO
juggernautXL_v9Rundiffusionphoto2 realisticVisionV60B1_v51HyperVAE my-net-2024-05-01 20240501 12-30-45 model_1 cafe t5xxl ae
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_a_name_that_looks_odd_was_not_made_up(name: str) -> None:
    assert not is_made_up(name)


@pytest.mark.parametrize(("length", "most"), [(32, 0.03), (52, 0.002)])
def test_of_digests_in_base32_hardly_any_is_taken_for_a_name(length: int, most: float) -> None:
    chosen = random.Random(7)
    digests = ["".join(chosen.choices("abcdefghijklmnopqrstuvwxyz234567", k=length)) for _ in range(1000)]
    assert sum(not is_made_up(digest) for digest in digests) <= most * 1000
    assert sum(not is_made_up(digest.upper()) for digest in digests) <= most * 1000


@pytest.mark.parametrize("name", ["12", "2024-05-01", "12-30-45", "20240501T123045Z", "12h30m45s", "run_12", "model-2", "model2"])
def test_a_number_or_a_time_is_numbered(name: str) -> None:
    assert is_numbered(name)


@pytest.mark.parametrize("name", ["sd15", "v1-5", "dreamshaper_8", "model", "epoch_3-lr", ""])
def test_a_name_with_a_number_is_not_only_numbered(name: str) -> None:
    assert not is_numbered(name)


def test_a_store_that_puts_a_digest_before_a_name_leaves_the_name() -> None:
    assert without_store_prefix("0c0jhdk4x5ijhxv8vbr7cd3qlyqqvqjq-gemma-2b") == "gemma-2b"
    assert without_store_prefix("thequickbrownfoxjumpsoverthelazy-gemma-2b") == "thequickbrownfoxjumpsoverthelazy-gemma-2b"


def test_a_contents_digest_has_128_bits_and_more() -> None:
    assert is_content_digest(HEX)
    assert is_content_digest(f"{HEX}-17")
    assert not is_content_digest("a1b2c3d4")
