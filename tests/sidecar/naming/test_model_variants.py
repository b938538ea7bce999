"""The same change of the same model is the same object, and is forgotten when nobody asks for it any more."""

from __future__ import annotations

from dataclasses import replace

from gpumodels.naming.model_variants import ModelVariants
from snapshots import a_model


def test_the_same_change_of_the_same_model_is_the_same_object() -> None:
    variants, model = ModelVariants(), a_model("one")
    changed = variants.of(model, name="two")
    variants.forget_unused()
    assert changed == replace(model, name="two")
    assert variants.of(model, name="two") is changed


def test_another_change_or_a_new_description_of_the_model_is_made_anew() -> None:
    variants, model = ModelVariants(), a_model("one", id="m1")
    variants.of(model, name="two")
    variants.forget_unused()
    assert variants.of(model, name="three").name == "three"
    described_anew = a_model("one", id="m1", size=5)
    assert variants.of(described_anew, name="two") == replace(described_anew, name="two")


def test_changes_of_different_fields_of_one_model_stand_beside_each_other() -> None:
    variants, model = ModelVariants(), a_model("one")
    named, slotted = variants.of(model, name="two"), variants.of(model, slot="vae")
    variants.forget_unused()
    assert variants.of(model, slot="vae") is slotted
    assert variants.of(model, name="two") is named


def test_what_was_not_asked_for_in_a_whole_round_is_forgotten() -> None:
    variants, model = ModelVariants(), a_model("one")
    changed = variants.of(model, name="two")
    variants.forget_unused()
    variants.forget_unused()
    again = variants.of(model, name="two")
    assert again == changed
    assert again is not changed
