"""The libraries in the environment of `make test-libraries` are those that the tests were written for."""

from __future__ import annotations

from library_hosts import installed_versions, needs, pinned_versions

pytestmark = [needs("openai-whisper")]


def test_every_library_is_installed_in_its_version() -> None:
    """Otherwise its tests are skipped, and say nothing."""
    assert installed_versions() == pinned_versions()
