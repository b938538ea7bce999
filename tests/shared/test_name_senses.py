"""What a file's or a directory's own name says of a model."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from gpumodels_shared.name_senses import Sense, may_be_in_hub, says_nothing, sense_of_file, sense_of_folder, stands_alone


def of_folder(path: str) -> Sense:
    directory = PurePath(path)
    return sense_of_folder(directory, directory.name)


@pytest.mark.parametrize(
    ("stem", "sense"),
    [
        ("flux1-dev", Sense.NAME),
        ("large-v3", Sense.NAME),
        ("epoch9.5", Sense.STATE),
        ("model_20240501", Sense.STATE),
        ("model_best", Sense.STATE),
        ("v2", Sense.STATE),
        ("model", Sense.NOTHING),
        ("bf16_zero_pp_rank_0_mp_rank_00_optim_states", Sense.NOTHING),
        ("layer_00-model_00-model_states", Sense.NOTHING),
        ("__0_0", Sense.NOTHING),
        ("", Sense.NOTHING),
        ("tmpab12cd3_", Sense.END),
        ("run-a1b2c3d4", Sense.END),
    ],
)
def test_a_file_says_a_name_a_state_or_nothing(stem: str, sense: Sense) -> None:
    assert sense_of_file(stem) is sense


@pytest.mark.parametrize(
    ("path", "sense"),
    [
        ("/w/my-net", Sense.NAME),
        ("/w/iter_0005000", Sense.STATE),
        ("/w/2024-05-01", Sense.STATE),
        ("/w/1", Sense.STATE),
        ("/w/trial_12", Sense.STATE),
        ("/w/2b", Sense.STATE),
        ("/w/UNet", Sense.NOTHING),
        ("/w/mp_rank_00", Sense.NOTHING),
        ("/w/Text-Encoders", Sense.END),
        ("/w/data2", Sense.END),
        ("/w/.ollama", Sense.END),
        ("/mnt/c", Sense.END),
        ("/", Sense.END),
    ],
)
def test_a_folder_says_a_name_a_state_or_that_nothing_above_says_more(path: str, sense: Sense) -> None:
    assert of_folder(path) is sense


HOMES = (
    "/home/ada /Users/ada /export/home/ada /data/home2/ada /nfs/homes/ada /afs/org/user/a/ada /mnt/c/Users/ada /media/ada/T7 "
    "/run/media/ada/T7 /Volumes/T7 /gcs/my-bucket /var/lib/docker/volumes/comfy"
)


@pytest.mark.parametrize("path", HOMES.split())
def test_a_folder_of_a_persons_or_a_disks_is_no_models(path: str) -> None:
    assert of_folder(path) is Sense.END


def test_this_processs_home_is_no_models_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/cluster/staff42/ada/")
    monkeypatch.setenv("USER", "ada")
    monkeypatch.delenv("LOGNAME", raising=False)
    assert [of_folder(path) for path in ("/cluster/staff42/ada", "/cluster/staff42", "/lustre3/ada")] == [Sense.END] * 3
    assert [of_folder(path) for path in ("/cluster/staff42/ada/my-net", "/cluster/staff4")] == [Sense.NAME] * 2
    monkeypatch.delenv("HOME")
    assert of_folder("/cluster/staff42") is Sense.NAME


@pytest.mark.parametrize("name", ["", "encoder", "model", "text_encoder_2", "Main", "0123456789abcdef0123456789abcdef"])
def test_a_role_and_an_identifier_say_nothing(name: str) -> None:
    assert says_nothing(name)


def test_a_name_says_something() -> None:
    assert not says_nothing("flux1-dev")


def test_a_hubs_repository_is_not_called_like_a_folder_for_anything() -> None:
    assert may_be_in_hub("Qwen3-8B")
    assert not any(map(may_be_in_hub, ("models", "unet", "checkpoint-500", "2024-05-01", "output2")))


def test_of_states_some_are_worth_saying_alone() -> None:
    folders = ("checkpoint-500", "iter_0005000", "v2", "2b", "latest", "2024-05-01")
    assert [state for state in folders if stands_alone(state, is_folder=True)] == ["checkpoint-500", "2b"]
    files = ("best", "v2", "model_1", "latest", "12")
    assert [state for state in files if stands_alone(state, is_folder=False)] == ["best", "v2"]
