"""The local target keeps the target contract on a real engine."""

import pytest

from klepaas.testing.target_contract import (
    KeepsWarmContract,
    RunsCommandsContract,
    ShiftsTrafficContract,
    ShowsEverythingContract,
    TargetContract,
)


@pytest.mark.docker
class TestLocalTarget(
    TargetContract, ShiftsTrafficContract, KeepsWarmContract, RunsCommandsContract, ShowsEverythingContract
):
    pass
