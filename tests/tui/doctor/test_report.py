"""What is printed of the results."""

from __future__ import annotations

import json

from gpumodels_tui.doctor.findings import Result, failed, passed, warned
from gpumodels_tui.doctor.report import document, document_text, report

RESULTS = [
    Result("a.good", (passed("fine"),)),
    Result("b.bad", (passed("so far"), failed("ü broken", "Mend it."), warned("odd", "Look."))),
]


def test_people_read_the_worst_first_and_what_to_do() -> None:
    assert report(RESULTS) == (
        "PASS  a.good  fine\n"
        "FAIL  b.bad   ü broken\n"
        "              -> Mend it.\n"
        "WARN          odd\n"
        "              -> Look.\n"
        "PASS          so far\n"
        "\n"
        "2 checks: 1 passed, 0 warned, 1 failed.\n"
    )


def test_programs_read_one_line_of_ascii() -> None:
    text = document_text(RESULTS)
    assert text.isascii()
    assert text.count("\n") == 1
    read = json.loads(text)
    assert read == document(RESULTS)
    assert (read["schema"], read["status"]) == (1, "FAIL")
    assert [(check["id"], check["status"]) for check in read["checks"]] == [("a.good", "PASS"), ("b.bad", "FAIL")]
    assert read["checks"][1]["findings"][1] == {"status": "FAIL", "text": "ü broken", "next_step": "Mend it."}
