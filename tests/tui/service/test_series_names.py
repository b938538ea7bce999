"""What series call processes and models: without a pid, and the same after a restart."""

from __future__ import annotations

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_tui.service.series_names import LONGEST_LABEL, SeriesNames, label
from gpumodels_tui.sources.feed import ProcessState
from snapshots import a_process, a_process_state, a_snapshot
from views import a_row


def of(name: str, key: str, user: str = "ada") -> ProcessState:
    return a_process_state(a_snapshot(process=a_process(name)), key=key, user=user)


def test_the_second_process_of_a_name_has_a_number_and_keeps_it() -> None:
    names = SeriesNames()
    first, second = of("main.py", "a"), of("main.py", "b")
    names.keep([first, second], [])
    assert [names.process(one)[0] for one in (first, second)] == ["main.py", "main.py (2)"]
    names.keep([second], [])
    assert names.process(second) == ("main.py (2)", "ada")
    third = of("main.py", "c")
    names.keep([second, third], [])
    assert [names.process(one)[0] for one in (second, third)] == ["main.py (2)", "main.py"]


def test_processes_of_two_users_or_names_need_no_number() -> None:
    names = SeriesNames()
    states = [of("main.py", "a"), of("main.py", "b", user="eve"), of("vllm", "c")]
    names.keep(states, [])
    assert [names.process(one)[0] for one in states] == ["main.py", "main.py", "vllm"]


def test_a_restarted_process_takes_over_the_name_of_the_one_that_died() -> None:
    names = SeriesNames()
    first, second = of("main.py", "a"), of("main.py", "b")
    names.keep([first, second], [])
    died = replace(first, liveness=Liveness.DEAD)
    names.keep([died, second], [])
    assert [names.process(one)[0] for one in (died, second)] == ["main.py", "main.py (2)"]
    restarted = of("main.py", "c")
    names.keep([died, second, restarted], [])
    assert [names.process(one)[0] for one in (second, restarted)] == ["main.py (2)", "main.py"]
    assert not names.has_name(died)


def test_of_processes_that_died_before_the_newest_has_the_name() -> None:
    names = SeriesNames()
    old, new = (replace(of("main.py", key), liveness=Liveness.DEAD, snapshot_at_ns=at) for key, at in (("a", 1), ("b", 2)))
    names.keep([old, new], [])
    assert [names.has_name(one) for one in (old, new)] == [False, True]
    assert names.process(new)[0] == "main.py"


def test_a_process_without_a_snapshot_has_a_name() -> None:
    names = SeriesNames()
    state = a_process_state(None, key="a")
    names.keep([state], [])
    assert names.process(state) == ("process", "ada")


def test_a_models_id_is_the_same_after_a_restart_and_tells_two_of_a_name_apart() -> None:
    row = a_row("bert")
    twin = replace(row, key="twin")
    names = SeriesNames()
    names.keep([row.process_state], [row, twin])
    first, second = names.model_id(row), names.model_id(twin)
    assert first != second
    again = SeriesNames()
    restarted = replace(row, key="another run", process_state=replace(row.process_state, key="another process"))
    again.keep([restarted.process_state], [restarted])
    assert again.model_id(restarted) == first


def test_a_model_that_gets_its_name_late_gets_another_id() -> None:
    row = a_row("bert")
    names = SeriesNames()
    names.keep([row.process_state], [row])
    before = names.model_id(row)
    named = replace(row, model=a_row("tiny-bert").model)
    names.keep([row.process_state], [named])
    assert names.model_id(named) != before


def test_a_label_is_short_and_has_nothing_invisible() -> None:
    assert label("a\x1b[31m\u202eb") == "a\\x1b[31m\\u202eb"
    assert len(label("x" * 10_000)) == LONGEST_LABEL
