from __future__ import annotations

import json

import pytest

from gpumodels_tui.comparing.documents import DocumentError, document_in

WHOLE = {"schema": 1, "processes": [{"pid": 1, "models": [{"id": "a", "name": "wan"}]}]}


def test_a_document_is_read_on_one_line_and_on_many() -> None:
    one, many = (document_in(json.dumps(WHOLE, indent=indent).encode()) for indent in (None, 2))
    assert one == many
    assert one.processes[0].models[0].offloaded_bytes is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"hello", "is no document of gpumodels-tui --json"),
        (b"[1]", "is no document of gpumodels-tui --json"),
        (b'{"schema": 2, "processes": {}}', "needs a newer gpumodels-tui"),
        (json.dumps(WHOLE).encode()[:-9], "its end is missing"),
        (b'{"schema": 1}', "is no document of gpumodels-tui --json"),
        (
            b'{"schema": 1, "processes": [{"pid": 1, "models": [{"id": "a", "name": "n", "offloaded_bytes": -1}]}]}',
            "is no document",
        ),
        (b'{"schema":' + b"[" * 100_000, "is no document"),
        (b'{"schema": 1, "host": "\xff"}', "is no document"),
    ],
)
def test_anything_else_is_an_error_of_one_line(text: bytes, said: str) -> None:
    with pytest.raises(DocumentError) as raised:
        document_in(text)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
