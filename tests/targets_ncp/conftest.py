import pytest

from klepaas.targets.ncp import client, registry


@pytest.fixture(autouse=True)
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_REST_S", 0.001)
    monkeypatch.setattr(registry, "FIRST_REST_S", 0.001)
