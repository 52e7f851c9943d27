"""Naver Cloud's words for the state of a run, as states of ours.

Source: API guides of SourceBuild ("status" of a build) and SourceDeploy ("status" of a history). SourcePipeline lists
its words nowhere; those that were seen, and those of clients that read it, are taken together."""

from enum import StrEnum


class RunState(StrEnum):
    RUNNING = "running"
    WAITING = "waiting"
    """For a person: an approval, or the decision about a canary."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


_STATES = {
    **dict.fromkeys(("prepare", "upload", "inprogress", "running", "started", "queued"), RunState.RUNNING),
    **dict.fromkeys(("waiting", "canceling", "canary_analyzing", "canary_rejecting"), RunState.RUNNING),
    **dict.fromkeys(("pending", "canary_pending", "canary_waiting_timeout"), RunState.WAITING),
    **dict.fromkeys(("success", "succeeded", "complete", "completed"), RunState.SUCCEEDED),
    **dict.fromkeys(("fail", "failed", "error", "reject", "canary_reject"), RunState.FAILED),
    **dict.fromkeys(("canceled", "cancelled", "cancel", "stopped"), RunState.CANCELLED),
}


def state_of(word: str | None) -> RunState:
    """A word nobody knows is no end: the run goes on until its deadline. `is_known` tells it apart."""
    return _STATES.get((word or "").strip().lower(), RunState.RUNNING)


def is_known(word: str | None) -> bool:
    return word is None or word.strip().lower() in _STATES
