"""What Naver Cloud says no with, as errors of ours. No sentence holds a credential, whatever comes back.

Source: Naver Cloud API guide, "Common response status codes"; the numbers of the services are in no guide."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from klepaas.errors import AnswerLost, AuthenticationFailed, KlepaasError, PermissionMissing, Rejected, Unavailable
from klepaas.logs import without_secrets

MAX_WORDS = 240
MAX_SKEW = timedelta(minutes=5)
"""Further away from the gateway's clock than this and every signature is refused."""
DUPLICATE_REPOSITORY = "310405"
SOURCE_NOT_ACCEPTABLE = "320610"
SCENARIO_NOT_UNDERSTOOD = "330900"
RUN_EXISTS = "340500"

_MEANING = {
    "300": "The gateway does not serve this address; look at the endpoint that is configured.",
    DUPLICATE_REPOSITORY: "A repository of this name exists already.",
    SOURCE_NOT_ACCEPTABLE: "The source repository is not acceptable to SourceBuild.",
    SCENARIO_NOT_UNDERSTOOD: "The scenario was not understood, or its stage names no cluster.",
    RUN_EXISTS: "A run of this pipeline is still going.",
}


@dataclass(frozen=True)
class Said:
    """An error as the provider words it; empty where it says nothing."""

    code: str = ""
    message: str = ""
    details: str = ""


def said_by(answer: httpx.Response) -> Said | None:
    """The error in an answer, at whatever status; None when there is none."""
    try:
        body = json.loads(answer.content) if answer.content.strip() else None
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(found := body.get("error"), dict):
        return Said(_text(found.get("errorCode")), _text(found.get("message")), _text(found.get("details")))
    if isinstance(body, dict) and isinstance(found := body.get("responseError"), dict):
        return Said(_text(found.get("returnCode")), _text(found.get("returnMessage")))
    if answer.is_success:
        return None
    return Said(message="" if b"<html" in answer.content[:500].lower() else answer.text[:1000])


def refusal(
    answer: httpx.Response,
    said: Said,
    *,
    service: str,
    method: str,
    secrets: Collection[str],
    skew: timedelta | None = None,
) -> KlepaasError:
    """`secrets` stay unsaid. `skew` is how far our clock is ahead of the gateway's; None when not known."""
    status = answer.status_code
    words = words_of(said, secrets)
    about = f"{service}, code {said.code[:20]}" if said.code else service
    line = f"NCP REST error {status}: {words or answer.reason_phrase or 'no reason given'} ({about})."
    evidence: dict[str, Any] = {"status": status, "provider_code": said.code[:20], "words": words, "service": service}
    if (trace := answer.headers.get("x-ncp-trace-id", "")).isascii() and trace.isprintable() and trace:
        evidence["trace_id"] = trace[:100]
    if status == 429:
        return Unavailable(line, hint="Nothing is lost: it is asked again later.", evidence=evidence)
    if status >= 500:
        if method == "GET":
            return Unavailable(line, hint="Try again later.", evidence=evidence)
        return answer_lost(line, evidence)
    if said.code == "210" or status == 403:
        return PermissionMissing(
            f"{line} The key is right, but it may not do this.",
            hint=f"Give its sub account the permission for {service} in Naver Cloud's console.",
            evidence=evidence,
        )
    if status == 401:
        return _not_authenticated(line, evidence, skew)
    return Rejected(f"{line} {_MEANING.get(said.code, '')}".rstrip(), evidence=evidence)


def answer_lost(line: str, evidence: dict[str, Any]) -> AnswerLost:
    return AnswerLost(
        f"{line} It is not known whether it was done.",
        hint="It is looked up before anything is sent again.",
        evidence=evidence,
    )


def not_understood(service: str, answer: httpx.Response | None = None) -> Rejected:
    return Rejected(
        f"What {service} answered cannot be understood.",
        hint="Look whether its endpoint is right (KLEPAAS_NCP_…_ENDPOINT).",
        evidence={"status": answer.status_code, "service": service} if answer is not None else {"service": service},
    )


def is_missing(error: KlepaasError) -> bool:
    """Whether the object asked for does not exist, as far as the words tell: which code says so is in no guide."""
    if not isinstance(error, Rejected) or error.evidence.get("provider_code") == "300":
        return False
    return error.evidence.get("status") == 404 or "not found" in str(error.evidence.get("words", "")).lower()


def is_duplicate(error: KlepaasError) -> bool:
    """Whether the name is taken. Only known signals count: any other refusal is a refusal."""
    evidence = error.evidence
    if not isinstance(error, Rejected) or evidence.get("status") not in {400, 409}:
        return False
    words = str(evidence.get("words", "")).lower()
    return evidence.get("provider_code") == DUPLICATE_REPOSITORY or "duplicat" in words or evidence["status"] == 409


def is_running_already(error: KlepaasError) -> bool:
    words = str(error.evidence.get("words", "")).lower()
    return isinstance(error, Rejected) and (
        error.evidence.get("provider_code") == RUN_EXISTS or "running pipeline exist" in words
    )


def _not_authenticated(line: str, evidence: dict[str, Any], skew: timedelta | None) -> AuthenticationFailed:
    if skew is not None and abs(skew) > MAX_SKEW - timedelta(seconds=30):
        evidence = {**evidence, "clock_skew_s": round(skew.total_seconds())}
        return AuthenticationFailed(
            f"{line} {skew_in_words(skew)}",
            hint="Set this machine's clock (NTP); signatures more than 5 minutes off are refused.",
            evidence=evidence,
        )
    return AuthenticationFailed(
        f"{line} Naver Cloud does not accept the signature of the key.",
        hint="Look at KLEPAAS_NCP_ACCESS_KEY and KLEPAAS_NCP_SECRET_KEY, and whether a proxy changes paths.",
        evidence=evidence,
    )


def skew_in_words(skew: timedelta) -> str:
    side = "ahead of" if skew > timedelta(0) else "behind"
    return f"This machine's clock is {abs(skew.total_seconds()) / 60:.1f} minutes {side} Naver Cloud's."


def words_of(said: Said, secrets: Collection[str]) -> str:
    """In one line, shortened, without what looks like a credential."""
    text = ": ".join(each for each in (said.message, said.details) if each)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…")
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return without_secrets(text)[:MAX_WORDS].rstrip(" .")


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, (dict, list)) else str(value)[:1000]
