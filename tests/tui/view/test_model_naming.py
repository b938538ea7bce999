"""Which name a model gets from model files where its process left it open."""

from __future__ import annotations

from dataclasses import replace

from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts, ValuesMatch
from gpumodels_tui.view.enrichment import enriched
from named_by_values import FINGERPRINT, TUNE, TWIN, recognised
from snapshots import GIB, MIB, NOON_NS, a_catalogue, a_model, some_facts

FILE = "/models/loras/MyLoRA.safetensors"


NOTHING = CatalogueState()


def test_a_model_is_named_by_the_file_whose_values_it_holds() -> None:
    model = recognised(ValuesMatch((TUNE,), (), 16, 16))
    assert (model.name, model.name_source, model.confidence, model.files) == ("my-tune", "values", 0.97, (TUNE,))
    assert recognised(ValuesMatch((TUNE,), (), 16, 16), model_type="My-Tune-14B").name == "my-tune"


def test_a_file_of_two_names_gives_none_but_lists_both() -> None:
    link = "/models/mine.safetensors"
    real = FileFacts(TUNE, 100, NOON_NS, "safetensors", aliases=(link,))
    model = replace(a_model("WanModel", confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)
    found = enriched(model, replace(a_catalogue(real), values={FINGERPRINT: ValuesMatch((link,), (), 16, 16)})).model
    assert (found.name, found.confidence, found.candidates) == ("WanModel", 0.0, (link, TUNE))
    blob = replace(real, path="/hub/blobs/0f")
    found = enriched(model, replace(a_catalogue(blob), values={FINGERPRINT: ValuesMatch((link,), (), 16, 16)})).model
    assert (found.name, found.candidates) == ("mine", ())


def test_a_file_that_a_store_calls_by_its_hash_has_its_symlinks_name() -> None:
    link, digest = "/nets/mine.safetensors", "9f86d081884c7d659a2feaa0c55ad015"
    stored = FileFacts(f"/nets/.git/annex/MD5E-s9--{digest}.safetensors", 100, NOON_NS, "safetensors", aliases=(link,))
    model = replace(a_model("WanModel", confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)
    found = enriched(model, replace(a_catalogue(stored), values={FINGERPRINT: ValuesMatch((link,), (), 16, 16)})).model
    assert (found.name, found.candidates) == ("mine", ())


def test_shards_that_two_repositories_share_are_neithers() -> None:
    ours, theirs = (
        [f"/hub/models--{owner}--big/snapshots/0a/model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        for owner in ("us", "them")
    )
    aliases = zip(ours, theirs, strict=True)
    files = [FileFacts(f"/hub/blobs/{n}f", 100, NOON_NS, "safetensors", aliases=both) for n, both in enumerate(aliases)]
    model = replace(a_model("WanModel", confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)
    verdict = ValuesMatch(tuple(ours), (), 16, 16)
    found = enriched(model, replace(a_catalogue(*files), values={FINGERPRINT: verdict})).model
    assert (found.name, found.confidence) == ("WanModel", 0.0)
    assert found.candidates == (*ours, theirs[0])


def test_a_tie_is_no_name_but_its_candidates() -> None:
    model = recognised(ValuesMatch((), (TUNE, TWIN), 16, 16))
    assert (model.name, model.confidence, model.candidates) == ("WanModel", 0.0, (TUNE, TWIN))


def test_copies_of_one_name_are_one_name() -> None:
    model = recognised(ValuesMatch((), (TUNE, "/models/my-tune_bf16.safetensors"), 16, 16))
    assert (model.name, model.files) == ("my-tune", ())
    assert len(model.candidates) == 2


def test_shards_are_named_together() -> None:
    shards = tuple(f"/models/big-model-0000{number}-of-00002.safetensors" for number in (1, 2))
    model = recognised(ValuesMatch(shards, (), 16, 16))
    assert (model.name, model.files) == ("big-model", shards)


def test_a_model_of_several_files_has_all_their_names() -> None:
    model = recognised(ValuesMatch((TUNE, TWIN), (), 16, 16, ((TUNE,), (TWIN,))))
    assert (model.name, model.confidence, model.files) == ("my-tune + other-tune", 0.97, (TUNE, TWIN))
    nameless = "/model.safetensors"
    model = recognised(ValuesMatch((TUNE, nameless), (), 16, 16, ((TUNE,), (nameless,))))
    assert (model.name, model.confidence) == ("WanModel", 0.0)


def test_a_sure_name_is_kept_and_gains_the_file_that_nobody_knew() -> None:
    sure = replace(a_model("org/name", confidence=0.95, name_source="config"), fingerprint=FINGERPRINT)
    assert recognised(ValuesMatch((TUNE,), (), 16, 16), sure) == replace(sure, files=(TUNE,))
    assert recognised(ValuesMatch((TUNE,), (), 13, 16), sure) == sure
    assert recognised(ValuesMatch((), (TUNE, TWIN), 16, 16), sure) == sure


def test_shards_state_a_name_together() -> None:
    shards = [f"/m/model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    files = [some_facts(path, {"model_type": "Wan2_2"}, {"bfloat16": GIB}) for path in shards]
    model = a_model("WanModel", 2 * GIB, confidence=0.5, name_source="class", files=shards)
    assert enriched(model, a_catalogue(*files)).model.name == "Wan2_2"


def test_a_file_that_states_only_a_role_gives_no_name() -> None:
    model = a_model("WanModel", confidence=0.5, name_source="class", files=[FILE])
    of_role = some_facts(FILE, {"model_type": "unet"}, {"bfloat16": GIB})
    assert enriched(model, a_catalogue(of_role)).model.name == "WanModel"
    with_title = some_facts(FILE, {"model_type": "unet", "modelspec.title": "Mine"}, {"bfloat16": GIB})
    assert enriched(model, a_catalogue(with_title)).model.name == "Mine"


def test_a_name_that_the_sidecar_is_sure_of_is_kept() -> None:
    model = a_model("my-fine-tune", files=[FILE], confidence=0.95)
    assert enriched(model, a_catalogue(some_facts(FILE, {"model_type": "Wan2_2-T2V-A14B"}))).shown_name == "my-fine-tune"


def the_name(size: int = GIB, files: tuple[str, ...] = (FILE,), candidates: tuple[str, ...] = (), confidence: float = 0.5) -> str:
    """Of a model named after its class, whose file states a model_type and holds 1 GB."""
    model = a_model("WanModel", size, confidence=confidence, name_source="class", files=files, candidates=candidates)
    return enriched(model, a_catalogue(some_facts(FILE, {"model_type": "Wan2_2-T2V-A14B-HIGH"}, {"bfloat16": GIB}))).shown_name


def test_a_class_is_replaced_by_what_its_only_file_states() -> None:
    assert the_name() == "Wan2_2-T2V-A14B-HIGH"


def test_a_class_stays_where_the_file_may_not_be_the_model() -> None:
    assert the_name(size=3 * GIB) == "WanModel"
    assert the_name(size=100 * MIB) == "WanModel"
    assert the_name(files=(FILE, "/models/other.safetensors")) == "WanModel"
    assert the_name(files=("/models/unknown.safetensors",)) == "WanModel"
    assert the_name(candidates=(FILE, "/models/twin.safetensors")) == "WanModel"
    assert the_name(confidence=0.0) == "WanModel"  # the sidecar saw that less than half of it is from the file


def test_the_file_that_was_read_when_a_model_came_is_a_hint_with_a_question_mark() -> None:
    model = a_model("WanModel (wan)", confidence=0.3, name_source="recency", candidates=[TUNE])
    assert enriched(model, NOTHING).shown_name == "WanModel (wan) · my-tune?"
    assert enriched(model, NOTHING).model.name == "WanModel (wan)"
    nameless = replace(model, candidates=("/models/loras/model.safetensors",))
    assert enriched(nameless, NOTHING).shown_name == "WanModel (wan)"


def test_a_guess_is_marked() -> None:
    model = a_model("probably", name_source="recency", confidence=0.3)
    assert enriched(model, NOTHING).shown_name == "probably?"


def searching(*files: FileFacts) -> CatalogueState:
    return replace(a_catalogue(*files), unsettled=frozenset((FINGERPRINT,)))


def test_a_name_that_may_still_come_is_pending_and_the_class_or_a_guess_stands_meanwhile() -> None:
    model = replace(a_model("WanModel", confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)
    found = enriched(model, searching()).model
    assert (found.name, found.name_source, found.confidence) == ("WanModel", "pending", 0.0)
    assert enriched(found, searching()).model == found
    assert enriched(model, searching()).shown_name == "WanModel …"
    guess = replace(model, name="WanModel (wan)", name_source="recency", confidence=0.3, candidates=(TUNE,))
    assert enriched(guess, searching()).shown_name == "WanModel (wan) · my-tune? …"
    assert (enriched(guess, searching()).model.name_source, enriched(guess, searching()).model.candidates) == ("pending", (TUNE,))


def test_a_name_that_is_known_or_stated_is_not_pending() -> None:
    model = replace(a_model("WanModel", 2 * GIB, confidence=0.5, name_source="class", files=[FILE]), fingerprint=FINGERPRINT)
    stated = some_facts(FILE, {"model_type": "Wan2_2"}, {"bfloat16": 2 * GIB})
    assert (enriched(model, searching(stated)).shown_name, enriched(model, searching(stated)).model.name_source) == (
        "Wan2_2",
        "file metadata",
    )
    known = replace(searching(some_facts(TUNE)), values={FINGERPRINT: ValuesMatch((TUNE,), (), 16, 16)})
    assert (enriched(model, known).shown_name, enriched(model, known).model.name_source) == ("my-tune", "values")
    sure = replace(a_model("org/name", confidence=0.95, name_source="config"), fingerprint=FINGERPRINT)
    assert (enriched(sure, searching()).shown_name, enriched(sure, searching()).model.name_source) == ("org/name", "config")


def test_what_the_process_itself_still_looks_for_is_pending_and_its_file_may_state_a_name() -> None:
    model = a_model("WanModel", 2 * GIB, confidence=0.5, name_source="pending", files=[FILE])
    assert enriched(model, NOTHING).shown_name == "WanModel …"
    stated = a_catalogue(some_facts(FILE, {"model_type": "Wan2_2"}, {"bfloat16": 2 * GIB}))
    assert enriched(model, stated).shown_name == "Wan2_2"


def test_a_file_with_the_models_values_is_surer_than_the_one_that_a_node_named() -> None:
    named = a_model("4x", confidence=0.65, name_source="node input", files=["/models/4x.pth"])
    model = replace(named, fingerprint=FINGERPRINT)
    catalogue = replace(NOTHING, values={FINGERPRINT: ValuesMatch((TUNE,), (), 16, 16)})
    found = enriched(model, catalogue).model
    assert (found.name, found.name_source, found.files) == ("my-tune", "values", (TUNE,))
    assert enriched(model, NOTHING).model == model
