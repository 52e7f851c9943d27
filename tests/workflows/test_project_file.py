"""What `klepaas.toml` of a commit may say about how its app is built and run."""

from klepaas.domain.status import Status
from klepaas.operations import projects
from klepaas.testing.fake_build import sha_of
from tests.workflows.world import World


async def test_the_project_file_sets_what_the_project_did_not_choose(here: World) -> None:
    here.source.files["klepaas.toml"] = 'port = 3000\nhealth_path = "/ready"\n'
    project = await here.project(port=4000)
    async with here.node():
        done = await here.ended(await here.deploy(project))

    release = await here.context.releases.get(done.release_id or "")
    assert release is not None
    assert (4000, "/ready") == (release.container_port, release.settings.health_path)


async def test_a_choice_that_is_taken_back_leaves_the_word_to_the_file(here: World) -> None:
    here.source.files["klepaas.toml"] = "port = 3000\n"
    project = await here.project(port=4000)
    await projects.configure(here.context, here.actor, project.id, projects.ProjectChange(settings={"port": None}))
    async with here.node():
        done = await here.ended(await here.deploy(project))

    release = await here.context.releases.get(done.release_id or "")
    assert release is not None
    assert 3000 == release.container_port


async def test_a_commit_built_before_keeps_the_settings_of_its_file(here: World) -> None:
    here.source.files["klepaas.toml"] = "port = 3000\n"
    project = await here.project()
    async with here.node():
        await here.ended(await here.deploy(project))
        again = await here.ended(await here.deploy(project, sha_of("one")))

    release = await here.context.releases.get(again.release_id or "")
    assert release is not None
    assert 3000 == release.container_port
    assert 1 == len(here.source.fetches)


async def test_a_wrong_project_file_fails_with_its_line_and_builds_nothing(here: World) -> None:
    here.source.files["klepaas.toml"] = 'health_path = "/ok"\nport = "many"\n'
    project = await here.project()
    async with here.node():
        done = await here.ended(await here.deploy(project))

    assert done.failure is not None
    assert (Status.FAILED, "invalid") == (done.status, done.failure.code)
    assert "klepaas.toml:2" in done.failure.message
    assert [] == here.builder.builds


async def test_a_variable_the_file_names_must_be_set(here: World) -> None:
    here.source.files["klepaas.toml"] = 'variables = ["DATABASE_URL"]\n'
    project = await here.project()
    async with here.node():
        missing = await here.ended(await here.deploy(project))
        await projects.set_variables(here.context, here.actor, project.id, {"DATABASE_URL": "x"})
        done = await here.ended(await here.deploy(project))

    assert missing.failure is not None
    assert "DATABASE_URL" in missing.failure.message
    assert Status.SUCCEEDED is done.status
