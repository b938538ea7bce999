from __future__ import annotations

from gpumodels_tui.comparing import matching
from gpumodels_tui.comparing.documents import Document, Model, Process


def pids(before: list[Process], after: list[Process], host: str = "box") -> list[tuple[int | None, int | None, bool]]:
    found = matching.processes(Document(1, tuple(before), host="box"), Document(1, tuple(after), host=host))
    return [(None if old is None else old.pid, None if new is None else new.pid, is_same) for old, new, is_same in found]


def test_a_process_is_the_same_by_pid_and_start_and_another_run_by_its_label() -> None:
    one, again = Process(1, "main.py", started_at="a"), Process(1, "main.py", started_at="b")
    assert pids([one], [one]) == [(1, 1, True)]
    assert pids([one], [again]) == [(1, 1, False)]
    assert pids([one], [one], "other") == [(1, 1, False)]
    assert pids([Process(1)], [one]) == [(1, 1, True)]
    assert pids([one], [Process(2, "train.py")]) == [(1, None, False), (None, 2, False)]


def test_a_model_is_the_same_by_id_in_its_process_and_by_its_files_in_another() -> None:
    wan, vae = Model("1", "wan", files=("/m/wan",)), Model("2", "vae", files=("/m/vae",))
    swapped = [Model("2", "wan", files=("/m/wan",)), Model("1", "vae", files=("/m/vae",))]
    same = [(old.name, new.name) for old, new in matching.models([wan, vae], swapped, same_process=True) if old and new]
    assert same == [("wan", "vae"), ("vae", "wan")]
    other = [(old.name, new.name) for old, new in matching.models([wan, vae], swapped, same_process=False) if old and new]
    assert other == [("wan", "wan"), ("vae", "vae")]


def test_models_that_are_alike_are_not_taken_for_each_other_without_a_reason() -> None:
    found = list(matching.models([Model("1", "Net")], [Model("2", "Net")], same_process=True))
    assert [(old is None, new is None) for old, new in found] == [(False, True), (True, False)]


def test_no_number_of_models_that_are_alike_makes_it_slow() -> None:
    """A list that was searched for each of them would take minutes."""
    many = [Model(str(number), "wan", files=("/m/wan",)) for number in range(50_000)]
    other = [Model(f"b{number}", "wan", files=("/m/wan",)) for number in range(50_000)]
    assert all(old is not None and new is not None for old, new in matching.models(many, other, same_process=True))
