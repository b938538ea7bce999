from __future__ import annotations

import json

from gpumodels_tui.comparing.differences import Difference, difference
from gpumodels_tui.comparing.documents import Document, Gpu, Model, Process
from gpumodels_tui.comparing.report import NOTHING, as_json, as_markdown, as_text

GIB = 1024**3


def found(name: str = "wan", label: str = "/home/ada/main.py") -> Difference:
    models = [
        Model("1", name, bytes_by_device=places, files=("/home/ada/wan",)) for places in ({"cpu": GIB}, {"cuda:0": 2 * GIB})
    ]
    one, other = (
        Document(1, (Process(7, label, models=(model,)),), at, "box", (Gpu("GPU-1", 0, "H200", used),))
        for model, at, used in zip(models, ("09:00", "10:00"), (GIB, 3 * GIB), strict=True)
    )
    return difference(one, other)


def test_the_text_is_aligned_and_says_who_and_when() -> None:
    assert as_text(found()) == (
        "From 09:00 to 10:00 on box\n\n"
        "devices\n"
        "  GPU 0  H200 in use  1.0 GB -> 3.0 GB (+2.0 GB)\n\n"
        "main.py, pid 7\n"
        "  moved  wan  1.0 GB host -> cuda:0\n"
        "  grew   wan  +1.0 GB on cuda:0\n"
    )


def test_markdown_is_a_table_that_no_name_breaks_and_no_path_is_in() -> None:
    text = as_markdown(found("a|b`c\n<img>\x1b[2J"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == "| where | what | name | change |"
    assert len(rows) == 5
    assert r"a\|b\`c\\x0a\<img\>\\x1b\[2J" in text
    assert "ada" not in text


def test_json_has_the_names_as_they_are_and_only_ascii() -> None:
    text = as_json(found("wän"))
    assert text.isascii()
    document = json.loads(text)
    assert document["processes"][0]["changes"][0]["name"] == "wän"
    assert document["schema"] == 1


def test_two_equal_documents_differ_in_nothing() -> None:
    same = Document(1, (), "09:00", "box")
    assert NOTHING in as_text(difference(same, same))
    assert NOTHING in as_markdown(difference(same, same))
