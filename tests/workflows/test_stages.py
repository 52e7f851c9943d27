"""The deadline of a stage, without a deployment."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from klepaas.workflows.engine import Run
from klepaas.workflows.stages import within


async def test_a_process_that_ends_while_a_stage_is_let_go_of_goes_no_further() -> None:
    """R-31: work that takes its time to end after the deadline must not swallow the end of the process."""
    told, may_end = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.set()
            await may_end.wait()

    run = cast(Run, SimpleNamespace(interrupted=asyncio.Event()))
    stage = asyncio.create_task(within(run, timedelta(0), stubborn(), too_late="Too late."))
    await told.wait()
    stage.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage
    may_end.set()
