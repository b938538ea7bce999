"""The stages by which a model gets its name, each by itself: evidence in, evidence out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import pytest

from gpumodels.naming.agreement import Agreement
from gpumodels.naming.evidence import Evidence, FileAgreement, MatchedFiles, Naming, NothingToAsk
from gpumodels.naming.identification import (
    CHOICE,
    STAGES,
    choose,
    choose_name,
    compare_with_files,
    drop_refuted_name,
    hint_at_file_read_at_creation,
    identify,
    keep_name_of_file,
    name_by_class,
)
from gpumodels_shared.fingerprint import Match
from gpumodels_shared.name_sources import NameSource
from gpumodels_shared.schema import Fingerprint

WAN_FILE = "/models/diffusion_models/Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors"


def test_a_file_that_holds_most_of_the_model_names_it() -> None:
    naming = choose_name(Evidence("WanModel", {(WAN_FILE, "mapped file"): 90}, 100))
    assert (naming.name, naming.source, naming.confidence) == ("Wan2_2-T2V-A14B-HIGH", "mapped file", 0.99)
    assert naming.files == (WAN_FILE,)


def test_a_file_that_holds_a_part_of_the_model_does_not_name_it() -> None:
    naming = choose_name(Evidence("WanModel", {(WAN_FILE, "mapped file"): 40}, 100, architecture="wan"))
    assert (naming.name, naming.source, naming.confidence) == ("WanModel (wan)", "class", 0.0)


def test_the_shards_of_a_checkpoint_are_one_name_and_several_files() -> None:
    shards = {(f"/m/llama/model-0000{part}-of-00002.safetensors", "mapped file"): 50 for part in (1, 2)}
    naming = choose_name(Evidence("LlamaForCausalLM", shards, 100))
    assert naming.name == "llama"
    assert len(naming.files) == 2


def test_two_files_that_hold_as_much_are_candidates_and_no_name() -> None:
    origins = {("/m/a.safetensors", "state dict"): 55, ("/m/b.safetensors", "state dict"): 45}
    naming = choose_name(Evidence("UNet", origins, 100))
    assert (naming.name, naming.source) == ("UNet", "class")
    assert naming.confidence < 0.6
    assert naming.candidates == ("/m/a.safetensors", "/m/b.safetensors")


@pytest.mark.parametrize(
    ("file", "stated", "name"),
    [
        ("/m/wan_high.safetensors", "Wan2_2-T2V-A14B-HIGH", "wan_high"),
        ("/tmp/tmp1/model.safetensors", "VACE-Depth", "VACE-Depth"),
        ("/m/my_tune_v3.safetensors", "Wan2_2-T2V-A14B-HIGH", "my_tune_v3"),
        ("/tmp/tmp1/model.safetensors", "untitled", "WanModel"),
        ("/m/Wan2_2-T2V-A14B-HIGH-mytune.safetensors", "Wan2_2-T2V-A14B-HIGH", "Wan2_2-T2V-A14B-HIGH-mytune"),
    ],
)
def test_metadata_name_a_model_only_where_its_file_does_not(file: str, stated: str, name: str) -> None:
    evidence = Evidence("WanModel", {(file, "mapped file"): 100}, 100, metadata={file: {"model_type": stated}})
    assert choose_name(evidence).name == name


def test_without_a_file_a_config_names_it_then_an_attribute_then_the_class() -> None:
    everything = Evidence("BertModel", config_name="org/name", architecture="bert", attributes=("mine",))
    assert choose_name(everything).name == "org/name"
    assert choose_name(Evidence("BertModel", architecture="bert", attributes=("mine",))).name == "mine"
    assert choose_name(Evidence("BertModel", architecture="bert")).name == "BertModel (bert)"
    assert choose_name(Evidence("BertModel")).confidence < 0.6


def matching(*paths: str, matched: int = 16, contradicts: bool = False, by_values: bool = True) -> MatchedFiles:
    return MatchedFiles(None, paths, Match(matched, 16) if by_values and paths else None, contradicts)


def test_values_name_a_model_before_its_config_does() -> None:
    naming = choose_name(Evidence("UNet", matched=matching("/m/my_tune_v3.safetensors"), config_name="org/base"))
    assert (naming.name, naming.source, naming.confidence) == ("my_tune_v3", "values", 0.97)
    patched = choose_name(Evidence("UNet", matched=matching("/m/my_tune_v3.safetensors", matched=12)))
    assert (patched.name, patched.confidence) == ("my_tune_v3", 0.75)


def test_a_config_decides_between_files_that_agree_equally_and_alone_they_are_candidates() -> None:
    tie = matching("/m/org/a.safetensors", "/m/org/b.safetensors")
    assert choose_name(Evidence("UNet", matched=tie)).candidates == tie.paths
    assert choose_name(Evidence("UNet", matched=tie)).confidence < 0.6
    assert choose_name(Evidence("UNet", matched=tie, config_name="b")).name == "b"


def test_a_config_whose_files_hold_other_values_names_nothing() -> None:
    naming = choose_name(Evidence("BertModel", matched=matching(contradicts=True), config_name="org/name", architecture="bert"))
    assert (naming.name, naming.confidence) == ("BertModel (bert)", 0.0)


def test_names_and_shapes_count_only_for_a_single_file_and_less_than_a_config() -> None:
    one = matching("/m/x_v1.safetensors", by_values=False)
    assert choose_name(Evidence("UNet", matched=one)).confidence == 0.7
    assert choose_name(Evidence("UNet", matched=one, config_name="org/name")).name == "org/name"
    two = matching("/m/x_v1.safetensors", "/m/y_v1.safetensors", by_values=False)
    assert choose_name(Evidence("UNet", matched=two)).confidence < 0.6


def test_values_from_elsewhere_are_no_file_and_take_the_majority_from_others() -> None:
    naming = choose_name(Evidence("WanModel", {(WAN_FILE, "mapped file"): 40, ("", "elsewhere"): 60}, 100))
    assert (naming.name, naming.files) == ("WanModel", (WAN_FILE,))


def test_two_files_that_hold_most_of_a_model_together_are_candidates_where_nobody_knows_a_name() -> None:
    """As of an encoder and a decoder whose cross-attention is new."""
    parts = {("/m/encoder_v1.bin", "state dict"): 42, ("/m/decoder_v1.bin", "state dict"): 40, ("", "elsewhere"): 18}
    naming = choose_name(Evidence("EncoderDecoderModel", parts, 100))
    assert (naming.name, naming.confidence) == ("EncoderDecoderModel", 0.5)
    assert naming.candidates == ("/m/encoder_v1.bin", "/m/decoder_v1.bin")
    assert choose_name(Evidence("EncoderDecoderModel", parts, 100, config_name="org/mine")).name == "org/mine"
    small = {("/m/encoder_v1.bin", "state dict"): 25, ("/m/decoder_v1.bin", "state dict"): 20, ("", "elsewhere"): 55}
    assert choose_name(Evidence("EncoderDecoderModel", small, 100)).candidates == ()
    layers = {(f"/m/layer_{number}.bin", "state dict"): 10 for number in range(10)}
    assert choose_name(Evidence("Stored", layers, 100)).candidates == ()


def test_a_component_without_a_name_of_its_own_has_its_pipelines() -> None:
    naming = choose_name(Evidence("UNet", pipeline_name="org/pipeline"))
    assert (naming.name, naming.source, naming.confidence) == ("org/pipeline", "pipeline", 0.9)


BASE: Final = "/m/base_v1.safetensors"
TUNE: Final = "/m/my_tune_v3.safetensors"
BY_VALUES: Final = Naming("base_v1", "values", 0.97, (BASE,))
BY_LOADING: Final = Naming("base_v1", "state dict", 0.95, (BASE,))
BY_CLASS: Final = Naming("UNet", "class", 0.0)
UNCHANGED: Final = Agreement(compared=16, matched=16, related=0)
PATCHED: Final = Agreement(compared=16, matched=13, related=3)
TRAINED: Final = Agreement(compared=16, matched=0, related=16)
REFUTED: Final = Agreement(compared=16, matched=1, related=2)


class Answers(NothingToAsk):
    """An inquiry that gives these answers, and remembers what it was asked."""

    def __init__(
        self,
        matched: MatchedFiles | None = None,
        agreement: FileAgreement | None = None,
        unseen: bool = False,
        read_at_creation: tuple[str, ...] = (),
        copied_since: tuple[str, ...] = (),
    ) -> None:
        self._copied_since = copied_since
        self.asked: list[str] = []
        self._matched, self._agreement = matched or MatchedFiles(None), agreement
        self._unseen, self._read_at_creation = unseen, read_at_creation

    def matched_files(self, is_name_claimed: bool) -> MatchedFiles:
        self.asked.append(f"matched files, claimed: {is_name_claimed}")
        return self._matched

    def metadata_of(self, paths: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        return {path: {"path": path} for path in paths}

    def agreement_with(self, paths: Sequence[str]) -> FileAgreement | None:
        self.asked.append(f"agreement with {', '.join(paths)}")
        return self._agreement

    def was_loaded_unseen(self) -> bool:
        return self._unseen

    def files_copied_since(self, paths: Sequence[str]) -> tuple[str, ...]:
        return self._copied_since

    def files_read_at_creation(self) -> tuple[str, ...]:
        self.asked.append("files read at creation")
        return self._read_at_creation


def evidence(naming: Naming, asked: Answers, matched: MatchedFiles | None = None, config_name: str | None = None) -> Evidence:
    """A named model of 100 bytes, all of them from the file of its name."""
    origins = {(path, "state dict"): 100 for path in naming.files} or {("", "elsewhere"): 100}
    return Evidence(
        "UNet", origins, 100, inquiry=asked, naming=naming, file_naming=naming, matched=matched, config_name=config_name
    )


def test_a_model_whose_file_is_known_is_not_compared_with_others() -> None:
    asked = Answers(matching(TUNE))
    known = Evidence("UNet", {(BASE, "state dict"): 60}, 100, inquiry=asked)
    assert compare_with_files(known) is known
    assert asked.asked == []
    compared = compare_with_files(replace(known, bytes_by_origin={(BASE, "state dict"): 50}))
    assert compared.matched == matching(TUNE)
    assert compared.metadata == {TUNE: {"path": TUNE}}


def test_the_first_way_to_a_name_ends_the_search_and_the_last_one_always_has_one() -> None:
    both = Evidence("UNet", {(BASE, "mapped file"): 100}, 100, matched=matching(TUNE), config_name="org/name")
    assert choose_name(both).name == "base_v1"
    assert CHOICE[-1] is name_by_class
    assert choose_name(Evidence("UNet")) == BY_CLASS


def test_choosing_again_begins_anew() -> None:
    chosen = choose(Evidence("UNet", {(BASE, "mapped file"): 100}, 100))
    again = choose(replace(chosen, bytes_by_origin={}))
    assert (again.naming, again.files, again.is_file_known) == (BY_CLASS, (), False)


def test_the_name_of_a_file_stays_when_its_evidence_thins_out() -> None:
    thin = replace(evidence(BY_CLASS, Answers()), file_naming=BY_LOADING, bytes_by_origin={(BASE, "state dict"): 30})
    kept = keep_name_of_file(thin)
    assert (kept.naming, kept.file_naming) == (BY_LOADING, BY_LOADING)


def test_the_name_of_a_file_ends_when_most_was_loaded_from_elsewhere() -> None:
    replaced = replace(evidence(BY_CLASS, Answers()), file_naming=BY_LOADING, bytes_by_origin={("", "elsewhere"): 51})
    assert keep_name_of_file(replaced) == replace(replaced, file_naming=None)
    half = replace(replaced, bytes_by_origin={("", "elsewhere"): 50})
    assert keep_name_of_file(half).naming == BY_LOADING


def test_a_tie_of_files_is_said_instead_of_the_former_name() -> None:
    tie = replace(evidence(replace(BY_CLASS, candidates=(BASE, TUNE)), Answers()), file_naming=BY_LOADING)
    assert keep_name_of_file(tie) is tie


def test_a_model_whose_values_are_its_files_is_asked_nothing_more() -> None:
    asked = Answers(matching(TUNE), FileAgreement(UNCHANGED))
    named = evidence(BY_LOADING, asked)
    assert drop_refuted_name(named) is named
    assert asked.asked == [f"agreement with {BASE}"]


def test_a_name_that_claims_no_values_can_not_be_refuted() -> None:
    asked = Answers(matching(TUNE), FileAgreement(REFUTED))
    for naming in (BY_CLASS, Naming("base_v1", "names and shapes", 0.7, (BASE,)), Naming("org/name", "config", 0.95)):
        named = evidence(naming, asked)
        assert drop_refuted_name(named) is named
    assert asked.asked == []


def test_a_model_whose_values_were_all_replaced_loses_its_name_and_its_configs() -> None:
    asked = Answers(matching(), FileAgreement(REFUTED))
    dropped = drop_refuted_name(evidence(BY_LOADING, asked, config_name="org/name"))
    assert (dropped.naming, dropped.file_naming, dropped.agreement) == (BY_CLASS, None, None)
    assert asked.asked[-1] == "matched files, claimed: True"


def test_a_model_that_another_file_fits_better_has_that_ones_name() -> None:
    dropped = drop_refuted_name(evidence(BY_LOADING, Answers(matching(TUNE), FileAgreement(PATCHED))))
    assert dropped.naming == Naming("my_tune_v3", "values", 0.97, (TUNE,))
    assert dropped.file_naming == dropped.naming


def test_a_file_that_fits_no_better_takes_no_name() -> None:
    kept = drop_refuted_name(evidence(BY_LOADING, Answers(matching(TUNE, matched=13), FileAgreement(PATCHED))))
    assert kept.naming == BY_LOADING


def test_what_was_merged_into_a_model_leaves_its_name_and_is_counted() -> None:
    agreement = FileAgreement(PATCHED, Agreement(265, 217, 48))
    kept = drop_refuted_name(evidence(BY_LOADING, Answers(matching(), agreement)))
    assert (kept.naming, kept.agreement) == (BY_LOADING, agreement)


@pytest.mark.parametrize("agreement", [PATCHED, TRAINED])
@pytest.mark.parametrize("naming", [BY_VALUES, replace(BY_VALUES, source=NameSource.MAPPED_FILE, confidence=0.99)])
def test_a_model_that_is_patched_or_trained_is_less_surely_what_its_values_or_its_mapping_said(
    naming: Naming, agreement: Agreement
) -> None:
    kept = drop_refuted_name(evidence(naming, Answers(matching(), FileAgreement(agreement))))
    assert kept.naming == replace(naming, confidence=0.75)
    untouched = drop_refuted_name(evidence(naming, Answers(matching(), FileAgreement(UNCHANGED))))
    assert untouched.naming == naming


def test_a_file_that_was_read_at_creation_is_a_hint_only_where_nothing_else_is_known() -> None:
    asked = Answers(read_at_creation=(TUNE,))
    hinted = hint_at_file_read_at_creation(evidence(BY_CLASS, asked)).naming
    assert hinted == Naming("UNet", "recency", 0.3, (), (TUNE,))
    known_values = MatchedFiles(Fingerprint((), 0))
    for known in (
        evidence(BY_LOADING, asked),
        evidence(replace(BY_CLASS, files=(BASE,)), asked),
        evidence(replace(BY_CLASS, candidates=(BASE, TUNE)), asked),
        evidence(BY_CLASS, asked, matched=known_values),
        evidence(BY_CLASS, Answers(read_at_creation=(TUNE,), unseen=True)),
        evidence(BY_CLASS, Answers()),
    ):
        assert hint_at_file_read_at_creation(known) is known


def test_all_stages_together_keep_what_each_found() -> None:
    assert STAGES.index(choose) < STAGES.index(keep_name_of_file) < STAGES.index(drop_refuted_name)
    asked = Answers(matching(TUNE, matched=13), FileAgreement(PATCHED))
    identified = identify(Evidence("UNet", {("", "elsewhere"): 100}, 100, inquiry=asked))
    assert identified.naming == Naming("my_tune_v3", "values", 0.75, (TUNE,))
    assert identified.file_naming == identified.naming
    assert identified.agreement == FileAgreement(PATCHED)
    assert asked.asked == ["matched files, claimed: False", f"agreement with {TUNE}", "matched files, claimed: False"]


def test_files_that_nothing_shows_to_be_the_models_are_candidates_and_no_name() -> None:
    guess = MatchedFiles(None, (BASE, TUNE), is_guess=True)
    naming = identify(Evidence("UNet", total_bytes=100, inquiry=Answers(guess))).naming
    assert naming == Naming("UNet", "class", 0.5, (), (BASE, TUNE))


def test_a_guess_does_not_stand_in_the_way_of_what_a_config_says() -> None:
    guess = MatchedFiles(None, (TUNE,), is_guess=True)
    naming = identify(Evidence("UNet", total_bytes=100, config_name="org/base", inquiry=Answers(guess))).naming
    assert naming is not None
    assert (naming.name, naming.source) == ("org/base", "config")


def test_values_from_before_a_copy_do_not_rule_out_what_was_read_at_creation() -> None:
    for is_outdated, candidates in ((True, (BASE,)), (False, ())):
        matched = MatchedFiles(Fingerprint((), 0), is_outdated=is_outdated)
        naming = identify(Evidence("UNet", total_bytes=100, inquiry=Answers(matched, read_at_creation=(BASE,)))).naming
        assert naming is not None
        assert naming.candidates == candidates


def test_a_model_over_which_another_file_may_have_been_copied_is_neither_files() -> None:
    loaded = {(BASE, "state dict"): 100}
    for copied_since, expected in (((), ("base_v1", ())), ((TUNE,), ("UNet", (BASE, TUNE)))):
        evidence = Evidence("UNet", loaded, 100, inquiry=Answers(copied_since=copied_since))
        naming = identify(evidence).naming
        assert naming is not None
        assert (naming.name, naming.candidates) == expected
