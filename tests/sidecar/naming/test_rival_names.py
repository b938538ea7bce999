"""Of several models that claim one file or name, only the one with the better evidence keeps it."""

from __future__ import annotations

from dataclasses import replace

from gpumodels.naming.model_variants import ModelVariants
from gpumodels.naming.rival_names import without_rival_names
from gpumodels_shared.name_sources import KNOWN_FILE_CONFIDENCE, RECENCY_CONFIDENCE, NameSource
from gpumodels_shared.schema import Fingerprint, Model
from snapshots import a_model

FILE = "/m/base_v1.safetensors"


def decided(*models: Model) -> list[Model]:
    return without_rival_names(models, ModelVariants())


def by_shapes(id: str, file: str = FILE) -> Model:
    """A model whose names and shapes are those of a file."""
    return a_model(
        "base_v1",
        id=id,
        class_name="UNet",
        architecture="wan",
        name_source=NameSource.NAMES_AND_SHAPES,
        confidence=0.7,
        files=[file],
        metadata={"modelspec.title": "Base"},
    )


def by_values(id: str, file: str = FILE) -> Model:
    return a_model("base_v1", id=id, class_name="UNet", name_source=NameSource.VALUES, confidence=0.97, files=[file])


def by_config(id: str) -> Model:
    return a_model("base_v1", id=id, class_name="UNet", name_source=NameSource.CONFIG, confidence=0.95)


def by_time(id: str, file: str = FILE) -> Model:
    """A model for which a file was read at the time of its birth."""
    return a_model(
        "UNet", id=id, class_name="UNet", name_source=NameSource.RECENCY, confidence=RECENCY_CONFIDENCE, candidates=[file]
    )


def test_models_that_claim_nothing_of_each_other_are_left_as_they_are() -> None:
    models = [by_values("m1"), by_shapes("m2", "/m/other.safetensors"), by_time("m3", "/m/third.safetensors")]
    assert all(one is other for one, other in zip(decided(*models), models, strict=True))


def test_who_only_looks_like_another_models_file_has_it_as_a_candidate() -> None:
    owner, alike = decided(by_values("m1"), by_shapes("m2"))
    assert owner == by_values("m1")
    assert (alike.name, alike.name_source, alike.confidence) == ("UNet (wan)", "class", KNOWN_FILE_CONFIDENCE)
    assert (alike.files, alike.candidates, alike.metadata) == ((), (FILE,), {})


def test_of_two_that_look_like_one_file_neither_has_its_name() -> None:
    assert [model.name for model in decided(by_shapes("m1"), by_shapes("m2"))] == ["UNet (wan)"] * 2


def test_two_models_with_the_values_of_one_file_both_have_its_name() -> None:
    assert [model.name for model in decided(by_values("m1"), by_values("m2"))] == ["base_v1"] * 2


def test_a_config_names_no_second_model_of_the_class_unless_its_values_were_seen() -> None:
    owner, second = decided(by_values("m1"), by_config("m2"))
    assert (owner.name, second.name) == ("base_v1", "UNet")
    seen = replace(by_config("m2"), fingerprint=Fingerprint((), 1))
    assert decided(by_values("m1"), seen)[1] is seen
    of_another_class = replace(by_config("m2"), class_name="TextEncoder")
    assert decided(by_values("m1"), of_another_class)[1] is of_another_class
    assert [model.name for model in decided(by_config("m1"), by_config("m2"))] == ["base_v1"] * 2


def test_a_file_that_is_known_to_be_anothers_or_was_there_for_two_is_no_hint() -> None:
    for models in ((by_values("m1"), by_time("m2")), (by_time("m1"), by_time("m2"))):
        last = decided(*models)[-1]
        assert (last.name, last.name_source, last.confidence, last.candidates) == ("UNet", "class", 0.0, ())
