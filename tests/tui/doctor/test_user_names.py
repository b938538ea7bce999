from __future__ import annotations

from gpumodels_tui.doctor.user_names import user_name


def test_a_user_has_a_name_and_a_number_without_one_is_said_to_be_one() -> None:
    assert user_name(0) == "root"
    assert user_name(3_999_999_999) == "uid 3999999999"
