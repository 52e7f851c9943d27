"""The door GitHub knocks at: statuses, texts and their order are those the older system had."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest

from klepaas.domain.verdict import Outcome
from klepaas.interfaces.api.webhook import LARGEST_BODY_BYTES, PATHS
from klepaas.operations import projects
from klepaas.operations.projects import Registration
from tests.deliveries import malformed
from tests.deliveries.conftest import SECRET, WEBHOOK, Decider, hooked
from tests.deliveries.payloads import ZERO, a_repository, every_payload, push, release, signed, to_bytes
from tests.interfaces.api.doors import everything
from tests.workflows.world import World


async def stored(here: World) -> list[str]:
    return [each.id for each in await here.context.deliveries.list(None, limit=1000)]


@pytest.mark.parametrize(
    ("secrets", "header", "status", "detail"),
    [
        (("app", None), None, 400, "Missing signature header"),
        (("app", "legacy"), None, 400, "Missing signature header"),
        (("app", "legacy"), "right for legacy", 401, "Invalid GitHub App signature"),
        (("app", None), "sha1=0", 401, "Invalid GitHub App signature"),
        ((None, None), "right for legacy", 400, "webhook secret not configured"),
        (("", ""), "right for nothing", 400, "webhook secret not configured"),
        ((None, "legacy"), None, 401, "invalid signature header"),
        ((None, "legacy"), "sha1=0", 401, "invalid signature header"),
        ((None, "legacy"), "sha256=0", 401, "signature mismatch"),
        ((None, "legacy"), "sha256=" + "0" * 64, 401, "signature mismatch"),
        ((None, "legacy"), b"sha256=\xff\xfe", 401, "signature mismatch"),
    ],
)
async def test_who_is_not_github_is_refused(
    alone: World, secrets: tuple[str | None, str | None], header: Any, status: int, detail: str
) -> None:
    """S-07: before anything else is said, and with nothing stored."""
    body = b"{nonsense"
    if isinstance(header, str) and header.startswith("right for"):
        header = signed(body, {"legacy": "legacy", "nothing": ""}[header.split()[-1]])
    async with hooked(alone, app_secret=secrets[0], legacy_secret=secrets[1]) as hook:
        before = await everything(alone)

        answer = await hook.send(body=body, event=None, headers={"X-Hub-Signature-256": header})

        assert (answer.status_code, answer.json()) == (status, {"detail": detail})
        assert await everything(alone) == before


async def test_what_the_app_signs_is_taken(alone: World) -> None:
    async with hooked(alone, app_secret="of the app", legacy_secret="legacy") as hook:
        answer = await hook.send(event="ping", secret="of the app")

    assert answer.json() == {"status": "ignored", "reason": "unsupported event ping"}


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_the_older_systems_had_leads_here(alone: World, path: str) -> None:
    async with hooked(alone) as hook:
        answer = await hook.send(path=path)
        other = await hook.client.get(path)

    assert answer.json() == {"status": "ignored", "reason": "integration_not_found", "repository": "acme/shop"}
    assert (other.status_code, other.headers["Allow"]) == (405, "POST")


async def test_without_an_event_or_json_it_is_no_delivery(alone: World) -> None:
    async with hooked(alone) as hook:
        answers = [await hook.send(event=None), await hook.send(event=""), await hook.send(body=b"{}x")]

    assert [(each.status_code, each.json()["detail"]) for each in answers] == [
        (400, "Missing event type header"),
        (400, "Missing event type header"),
        (400, "Invalid JSON payload"),
    ]
    assert await stored(alone) == []


async def test_every_event_github_documents_is_answered_and_kept(alone: World) -> None:
    """Must show 3: unknown ones by the contract's words, never a 5xx."""
    async with hooked(alone) as hook:
        payloads = [*every_payload(), ("a_new_event", {"action": "made"}), ("x" * 300, {}), ("é ü", [])]
        answers = await asyncio.gather(
            *(hook.send(payload, event=event.encode("latin-1")) for event, payload in payloads)  # type: ignore[arg-type]
        )

    for (event, _), answer in zip(payloads, answers, strict=True):
        assert answer.status_code == 200, event
        if event not in {"push", "release"}:
            assert answer.json() == {"status": "ignored", "reason": f"unsupported event {event[:80]}"}
    assert len(await alone.context.deliveries.list(None, limit=1000)) == len(payloads)


async def test_200_kinds_of_malformed_deliveries_never_are_our_fault(here: World) -> None:
    """S-07, must show 3: by the real rules, on both databases."""
    rules = {"pushes": "every_push", "releases": False}  # which commit a tag names only GitHub could say
    wanted = Registration(repository="acme/shop", target="fake", auto_deploy=True, rules=rules)
    await projects.register(here.context, here.actor, wanted)
    kinds = list(malformed.bodies())
    async with hooked(here) as hook:
        for first in range(0, len(kinds), 50):
            some = kinds[first : first + 50]
            answers = await asyncio.gather(
                *(
                    hook.send(event=event, body=body, headers={"Content-Type": kind.encode("latin-1")})
                    for _, event, kind, body in some
                )
            )
            for (name, *_), answer in zip(some, answers, strict=True):
                assert answer.status_code in {200, 400}, (name, answer.text)
                assert answer.json().get("status") != "accepted", (name, "it could not be decided")
                if answer.status_code == 400:
                    assert answer.json() == {"detail": "Invalid JSON payload"}, name


@pytest.mark.parametrize("delivery", ["ä", "a b", "x" * 200, "../../etc", "", None])
async def test_without_a_usable_id_the_same_delivery_still_counts_once(alone: World, delivery: str | None) -> None:
    async with hooked(alone) as hook:
        name = {} if delivery is None else {"X-GitHub-Delivery": delivery.encode()}
        for _ in range(3):
            assert (await hook.send(delivery=None, headers=name)).status_code == 200
        await hook.send(release(), event="release", delivery=None, headers=name)

    assert len(await stored(alone)) == 2


async def test_headers_that_tell_the_hook_are_kept_and_the_signature_is_not(alone: World) -> None:
    async with hooked(alone) as hook:
        await hook.send(delivery="d-1", headers={"X-GitHub-Hook-ID": "7", "Cookie": "s3cret"})

    found = await alone.context.deliveries.get("d-1")
    assert found is not None
    assert set(found.headers) == {
        *("content-type", "user-agent", "x-github-delivery", "x-github-event", "x-github-hook-id")
    }


async def test_a_form_is_as_good_as_json(alone: World) -> None:
    async with hooked(alone) as hook:
        body = b"payload=" + quote_plus(json.dumps(push())).encode()
        answer = await hook.send(body=body, headers={"Content-Type": "application/x-www-form-urlencoded"})

    assert answer.json()["reason"] == "integration_not_found"


# What was decided, in the words of the older system.


@pytest.mark.parametrize(
    ("outcome", "reason", "payload", "expected"),
    [
        (
            *(Outcome.IGNORED, "not main branch", {"ref": "refs/heads/topic/main"}),
            {"status": "ignored", "reason": "not main branch", "branch": "topic/main"},
        ),
        (
            *(Outcome.IGNORED, "not main branch", {"ref": "refs/tags/main"}),
            {"status": "ignored", "reason": "not main branch", "branch": "refs/tags/main"},
        ),
        (
            *(Outcome.IGNORED, "not a PR merge commit", {}),
            {"status": "ignored", "reason": "not a PR merge commit"},
        ),
        (
            *(Outcome.SKIPPED, "auto_deploy_disabled", {}),
            {"status": "skipped", "reason": "auto_deploy_disabled"},
        ),
    ],
)
async def test_what_was_not_deployed_is_answered_word_by_word(
    alone: World, outcome: Outcome, reason: str, payload: dict[str, Any], expected: dict[str, str]
) -> None:
    decider = Decider(await alone.project(), outcome, reason)
    async with hooked(alone, decider) as hook:
        answer = await hook.send(push(**payload))

    assert (answer.status_code, answer.json()) == (200, expected)


async def test_a_deployment_is_answered_with_its_ids(alone: World) -> None:
    project = await alone.project()
    async with hooked(alone, Decider(project, Outcome.DEPLOYED, "by push", "dep_1")) as hook:
        answer = (await hook.send(push(after="c" * 40))).json()

    assert answer["status"] == "triggered"
    assert answer["deploy"] == {
        "deployment_id": "dep_1",
        "deploy_history_id": 7,
        "project_id": project.id,
        "environment": "production",
        "repository": "shop",
        "commit": "ccccccc",
        "repeated": False,
    }
    assert answer["deployments"] == [answer["deploy"]]


async def test_a_pipeline_is_answered_as_such(alone: World) -> None:
    from dataclasses import replace

    project = replace(await alone.project(), pipeline_id="pl-9")

    class WithPipeline:
        async def get(self, _: str) -> object:
            return project

    async with hooked(alone, Decider(project, Outcome.DEPLOYED, "by push", "dep_1")) as hook:
        hook.door.intake._context = replace(alone.context, projects=WithPipeline())  # type: ignore[arg-type]
        answer = (await hook.send(push(after="c" * 40))).json()

    assert answer | {"deployments": []} == {
        "status": "pipeline_triggered",
        "mode": "sourcepipeline",
        "pipeline_id": "pl-9",
        "history_id": 7,
        "repository": "shop",
        "commit": "ccccccc",
        "deployments": [],
    }


async def test_a_release_is_answered_with_its_environment(alone: World) -> None:
    async with hooked(alone, Decider(await alone.project(), Outcome.DEPLOYED, "by release", "dep_1")) as hook:
        answer = (await hook.send(release(), event="release")).json()

    assert (answer["status"], answer["environment"], answer["deploy"]["commit"]) == (
        *("triggered", "production"),
        "v1.2.0",
    )


async def test_the_real_rules_answer_the_contracts_words(alone: World) -> None:
    """R-13: wrong branch, tag, deleted branch, automatic deployment off; and an unknown repository."""
    wanted = Registration(repository="acme/shop", target="fake", rules={"pushes": "every_push"})
    await projects.register(alone.context, alone.actor, wanted)
    async with hooked(alone) as hook:
        told = [
            push(ref="refs/heads/other"),
            push(ref="refs/tags/main"),
            push(after=ZERO, deleted=True),
            push(),
            {**push(), "repository": a_repository("acme/other", number=5)},
        ]
        answers = [(await hook.send(each)).json() for each in told]

    assert [(each["status"], each["reason"]) for each in answers] == [
        ("ignored", "not main branch"),
        ("ignored", "not main branch"),
        ("ignored", "not main branch"),
        ("skipped", "auto_deploy_disabled"),
        ("ignored", "integration_not_found"),
    ]


# Large bodies.


async def test_25_mib_are_taken_and_one_byte_more_is_too_much(alone: World) -> None:
    """R-20."""
    async with hooked(alone) as hook:
        largest = to_bytes(push(filler="x" * (LARGEST_BODY_BYTES - len(to_bytes(push(filler=""))))))
        assert len(largest) == LARGEST_BODY_BYTES

        taken = await hook.send(body=largest)
        refused = await hook.send(body=largest + b" ")

    assert taken.json()["reason"] == "integration_not_found"
    assert (refused.status_code, refused.headers["Connection"]) == (413, "close")
    assert refused.json() == {"detail": f"The payload is larger than {LARGEST_BODY_BYTES} bytes."}
    assert len(await stored(alone)) == 1


async def test_a_body_that_does_not_say_how_large_it_is_is_read_no_further_than_allowed(alone: World) -> None:
    """R-20."""
    fed = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal fed
        for _ in range(200):
            fed += 1
            yield b"x" * 2**20

    async with hooked(alone) as hook, hook.door.served() as url, httpx.AsyncClient(trust_env=False) as client:
        headers = {"X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=" + "0" * 64}
        try:
            status = (await client.post(url + WEBHOOK, content=endless(), headers=headers)).status_code
        except httpx.TransportError:  # closed while we were still sending
            status = 413

    assert status == 413
    assert fed < 40


async def test_an_announced_body_that_is_too_large_is_not_read(alone: World) -> None:
    async with hooked(alone) as hook, hook.door.served() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(
            f"POST {WEBHOOK} HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST_BODY_BYTES + 1}\r\n"
            f"X-GitHub-Event: push\r\nX-Hub-Signature-256: sha256={'0' * 64}\r\n\r\n".encode()
        )
        status = (await asyncio.wait_for(reader.readline(), 10)).split()[1]
        writer.close()

    assert status == b"413"


async def test_a_stranger_without_a_signature_is_refused_before_the_body_is_read(alone: World) -> None:
    async with hooked(alone) as hook, hook.door.served() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(f"POST {WEBHOOK} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode())
        status = (await asyncio.wait_for(reader.readline(), 10)).split()[1]
        writer.close()

    assert status == b"401"


async def test_a_body_that_does_not_come_is_not_waited_for(alone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from klepaas.interfaces.api import webhook

    monkeypatch.setattr(webhook, "BODY_WITHIN_S", 0.05)
    async with hooked(alone) as hook, hook.door.served() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST {WEBHOOK} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nX-GitHub-Event: push\r\n"
        writer.write(f"{head}X-Hub-Signature-256: {signed(b'x', SECRET)}\r\n\r\nx".encode())
        status = (await asyncio.wait_for(reader.readline(), 10)).split()[1]
        writer.close()

    assert status == b"408"
