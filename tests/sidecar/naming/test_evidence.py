"""What evidence is before anything is found out."""

from __future__ import annotations

from gpumodels.naming.evidence import Evidence, MatchedFiles, NothingToAsk


def test_an_inquiry_without_answers_gives_stages_nothing() -> None:
    nothing = NothingToAsk()
    assert nothing.matched_files(is_name_claimed=True) == MatchedFiles(None)
    assert nothing.metadata_of(["/m/a.safetensors"]) == {}
    assert nothing.agreement_with(["/m/a.safetensors"]) is None
    assert not nothing.was_loaded_unseen()
    assert nothing.files_read_at_creation() == ()


def test_evidence_begins_without_a_name() -> None:
    evidence = Evidence("UNet")
    assert (evidence.naming, evidence.file_naming, evidence.matched, evidence.agreement) == (None, None, None, None)
    assert not evidence.is_file_known
