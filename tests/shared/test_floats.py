"""Floating-point formats, against torch's own and at their edges."""

from __future__ import annotations

import math

import pytest
import torch

from gpumodels_shared.floats import FORMATS, ITEM_BYTES, decode_values, round_to

DTYPES = {name: getattr(torch, name) for name in ITEM_BYTES if "int" not in name}
NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


def raw(tensor: torch.Tensor) -> bytes:
    """Its elements' bytes."""
    return bytes(tensor.contiguous().view(torch.uint8).tolist())


@pytest.mark.parametrize("dtype", [*NARROW, "float32"])
def test_rounding_is_torchs_own_for_every_kind_of_value(dtype: str) -> None:
    generator = torch.Generator().manual_seed(1)
    wide = torch.randn(2000, generator=generator, dtype=torch.float64)
    scales = torch.exp2(torch.randint(-30, 20, (2000,), generator=generator).double())
    # torch casts float64 through float32: values that float32 holds are what files have.
    values = (wide * scales).float().double()
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 448.0, 464.0, 465.0, 57344.0, 61440.0, 65504.0, 65520.0])
    values = torch.cat([values, special.double()])
    expected = values.float().to(DTYPES[dtype]).double().tolist()
    for value, want in zip(values.tolist(), expected, strict=True):
        got = round_to(value, dtype)
        assert got == want or (math.isnan(got) and math.isnan(want)), (value, got, want)


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_raw_bytes_are_read_as_torch_reads_them(dtype: str) -> None:
    tensor = torch.randn(64, generator=torch.Generator().manual_seed(2)).to(DTYPES[dtype])
    assert decode_values(dtype, raw(tensor)) == tuple(tensor.double().tolist())


@pytest.mark.parametrize("dtype", NARROW)
def test_every_value_of_a_format_is_itself_when_rounded_to_it(dtype: str) -> None:
    size = ITEM_BYTES[dtype]
    step = 1 if size == 1 else 251  # all bytes, and some of all pairs of them
    values = decode_values(dtype, b"".join(bits.to_bytes(size, "little") for bits in range(0, 256**size, step)))
    assert len(values) > 200
    for value in values:
        assert math.isnan(value) or round_to(value, dtype) == value


def test_ties_go_to_the_even_neighbour_and_what_is_too_small_to_zero() -> None:
    assert [round_to(value, "bfloat16") for value in (1 + 2**-8, 1 + 3 * 2**-8)] == [1.0, 1 + 2**-6]
    assert [round_to(value, "float8_e4m3fn") for value in (2**-10, 3 * 2**-10, 2**-11)] == [0.0, 2**-8, 0.0]


def test_beyond_the_largest_value_is_what_torch_makes_of_it() -> None:
    for dtype, form in FORMATS.items():
        assert round_to(form.largest, dtype) == form.largest
        assert round_to(-form.largest * 2, dtype) == -form.overflow
        assert round_to(math.inf, dtype) == form.overflow


def test_float64_holds_any_number_as_it_is() -> None:
    for value in (0.1, 1e300, -math.inf):
        assert round_to(value, "float64") == value


def test_what_is_no_whole_element_or_no_format_is_an_error() -> None:
    with pytest.raises(KeyError):
        decode_values("complex64", bytes(8))
    with pytest.raises(KeyError):
        decode_values("uint8", b"\x01")  # an integer agrees only byte for byte
    assert decode_values("float16", b"") == ()
