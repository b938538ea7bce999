"""The package's functions where it isn't supported: programs run there as ever."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gpumodels import unsupported


def test_it_says_so_and_programs_run_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    def function() -> int:
        return 1

    async def asynchronous() -> int:
        async with unsupported.stage("a"):
            return 2

    with caplog.at_level(logging.WARNING, "gpumodels"):
        unsupported.start()
    unsupported.label(object(), "a")
    with pytest.raises(KeyError), unsupported.stage("a"):
        raise KeyError
    assert asyncio.run(asynchronous()) == 2
    assert unsupported.stage("a")(function) is unsupported.stage(function) is function
    unsupported.stop()
    assert ["not supported" in record.message for record in caplog.records] == [True]
