from dataclasses import replace

import pytest

from klepaas.domain.github_app import GitHubApp
from klepaas.errors import Conflict, WrongKey
from klepaas.operations.current_app import CurrentApp
from klepaas.storage.github_app import GitHubAppTable
from klepaas.storage.rotation import reseal
from klepaas.storage.sealing import Sealer
from tests.storage.worlds import KEY, NOW, Memory

APP = GitHubApp(
    app_id="910001",
    private_key="-----BEGIN c4n4ry-----",
    webhook_secret="c4n4ry-secret",
    slug="klepaas-example",
    html_url="https://github.com/apps/klepaas-example",
)
OTHER_KEY = bytes(32)


def test_an_app_shows_no_secret_of_its_own() -> None:
    """S-05."""
    assert "c4n4ry" not in repr(APP)


async def test_an_app_comes_back_as_it_was_kept(memory: Memory) -> None:
    table = GitHubAppTable(memory.database, memory.sealer)
    assert await table.get() is None

    await table.put(APP, NOW)

    assert await table.get() == APP


async def test_there_is_one_app_and_it_is_not_overwritten(memory: Memory) -> None:
    """Its key would be lost, and with it every installation."""
    table = GitHubAppTable(memory.database, memory.sealer)
    await table.put(APP, NOW)

    with pytest.raises(Conflict):
        await table.put(replace(APP, app_id="2"), NOW)

    assert await table.get() == APP
    assert await table.remove()
    assert not await table.remove()
    await table.put(replace(APP, app_id="2"), NOW)


async def test_an_app_is_sealed_again_when_a_new_key_takes_over(memory: Memory) -> None:
    await GitHubAppTable(memory.database, memory.sealer).put(APP, NOW)

    await reseal(memory.database, Sealer([OTHER_KEY, KEY]))

    assert await GitHubAppTable(memory.database, Sealer([OTHER_KEY])).get() == APP
    with pytest.raises(WrongKey):
        await GitHubAppTable(memory.database, memory.sealer).get()


async def test_the_settings_win_over_what_is_kept(memory: Memory) -> None:
    table = GitHubAppTable(memory.database, memory.sealer)
    await table.put(APP, NOW)
    given = GitHubApp(app_id="7", private_key="theirs", webhook_secret="their-secret")
    current = CurrentApp(table, given, app_secret="their-secret", legacy_secret="old")

    assert await current.now() == given
    secrets = await current.webhook_secrets()
    assert (secrets.app, secrets.legacy) == ("their-secret", "old")
    assert "secret" not in repr(secrets).replace("WebhookSecrets", "")
    with pytest.raises(Conflict):
        await current.adopt(APP, NOW)


async def test_the_apps_own_secret_is_used_when_the_settings_name_none(memory: Memory) -> None:
    current = CurrentApp(GitHubAppTable(memory.database, memory.sealer))
    assert (await current.webhook_secrets()).app is None

    await current.adopt(APP, NOW)

    assert (await current.webhook_secrets()).app == APP.webhook_secret
    assert await current.forget()
    assert (await current.webhook_secrets()).app is None


async def test_an_empty_secret_is_none(memory: Memory) -> None:
    """S-07."""
    table = GitHubAppTable(memory.database, memory.sealer)
    await table.put(replace(APP, webhook_secret=""), NOW)

    secrets = await CurrentApp(table, app_secret="", legacy_secret="").webhook_secrets()

    assert (secrets.app, secrets.legacy) == (None, None)
