"""Runs that somebody started in Naver Cloud's console, noticed in the histories and written down as theirs."""

from klepaas.domain.project import App
from klepaas.targets.ncp.chain import Chain
from klepaas.targets.ncp.cloud import BUILD, DEPLOY, RESTORE, Cloud

_SERVICE = {BUILD: "SourceBuild", DEPLOY: "SourceDeploy"}


async def noticed(cloud: Cloud, app: App, chain: Chain) -> tuple[str, ...]:
    """One sentence for each run that ended since klepaas last looked, or started one itself, and that is not its own.

    Errors: those of looking."""
    told: list[str] = []
    for kind, project_id, looks in (
        (BUILD, chain.build_project_id, cloud.build_looks),
        (DEPLOY, chain.deploy_project_id, cloud.deploy_looks),
    ):
        newest = await cloud.runs.newest(app.key, kind)
        if newest is None or newest.ended_at is None or newest.run_id is None:
            continue  # What was there before klepaas is nobody's news, and a run of ours may not be in the book yet.
        seen = await looks.look(project_id)
        known = {*newest.known, *await cloud.runs.ids(kind, str(project_id))}
        if kind == DEPLOY:
            known |= set(await cloud.runs.ids(RESTORE, str(project_id)))
        for run in seen:
            if run.id in known or not run.state.is_final:
                continue
            word, by = run.word or "", run.by or ""
            if await cloud.runs.by_hand(app, kind, str(project_id), run.id, word=word, by=by):
                who = f" by {by}" if by else ""
                told.append(f"Run {run.id} of {_SERVICE[kind]} was started{who} in Naver Cloud's console: {word}.")
    return tuple(told)
