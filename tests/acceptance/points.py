"""Every point at which klepaas is killed, by what it was doing. `port_leased#2`: the second time."""


def _passed(*stages: str) -> tuple[str, ...]:
    return tuple(f"{stage}.{moment}" for stage in stages for moment in ("started", "done", "recorded"))


SECOND_DEPLOYMENT = (
    "claimed",
    *_passed("fetch", "build", "release", "verify", "promote", "retire"),
    "port_leased",
    "port_leased#2",
    "port_leased#3",
    "container_created",
    "container_started",
    "upstream_written",
    "container_parked",
    "container_removed",
    "ended",
)
ROLLBACK = (
    "claimed",
    *_passed("release", "promote", "retire"),  # verified along the way: it answers as soon as it is thawed
    "port_leased",
    "port_leased#2",
    "port_leased#3",
    "container_thawed",
    "upstream_written",
    "container_parked",
    "ended",
)
TAKEN_BACK = ("abandon.started", "abandon.done", "abandon.recorded", "upstream_written#2", "container_removed")
"""What a switch that is taken back goes through after the way of a deployment."""
FIRST_DEPLOYMENT = ("claimed", "container_created", "port_leased#2", "upstream_written", "promote.recorded")
CANCELLED = ("abandon.started", "abandon.recorded")

AT_NAVER = (
    "claimed",
    *_passed("fetch", "build"),
    "mirrored",
    "build_run.started",
    *_passed("release"),
    "manifest.pushed",
    "deploy_run.started",
    *_passed("verify", "promote", "retire"),
    "ended",
)
"""A deployment to Naver Cloud, each outside effect of it among them."""
BACK_AT_NAVER = (
    "claimed",
    *_passed("release"),
    "manifest.pushed",
    "deploy_run.started",
    *_passed("verify", "promote", "retire"),
    "ended",
)

COMMAND = ("command_created", "command_started", "command_removed")
"""What a deployment goes through besides when its release has a command."""
