"""Everything klepaas can say no with.

    KlepaasError
    ├── Refused                  change the request: nothing was touched
    │   ├── NotFound
    │   ├── NotAllowed
    │   │   └── NotAuthenticated
    │   ├── Conflict
    │   ├── Invalid
    │   └── WrongKey
    └── Outside                  another system is the reason
        ├── Unavailable          try again, maybe after `retry_after`
        │   ├── NetworkTimeout
        │   ├── EngineUnavailable
        │   ├── AnswerLost       it may have been done: look before asking again
        │   └── DiskFull
        └── Rejected             repeating will not help
            ├── RepositoryNotFound, BranchNotFound, CommitNotFound, AuthenticationFailed, RepositoryTooLarge
            ├── DockerfileNotFound, DockerfileAmbiguous, DockerfileEmpty, DockerfileUnusable, ContextUnusable
            ├── BuildFailed, BuildTimeout, ImageMissing, ManifestUnusable, PermissionMissing
            ├── ReleaseCommandFailed, NotHealthy, SwitchFailed
            └── EngineTooOld, DeadlinePassed

Every class has a stable `code` that clients may test for; every message is a sentence for the person who
asked, and `hint` says what to do next when we know it. HTTP statuses and exit codes are tables at their doors.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar


class KlepaasError(Exception):
    """A sentence for the person who asked, with the evidence for it."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.evidence: dict[str, Any] = dict(evidence or {})


class Refused(KlepaasError):
    """The request cannot be carried out as it is; nothing was touched."""

    code = "refused"


class NotFound(Refused):
    code = "not_found"


class NotAllowed(Refused):
    code = "not_allowed"


class NotAuthenticated(NotAllowed):
    code = "not_authenticated"


class Conflict(Refused):
    code = "conflict"


class Invalid(Refused):
    code = "invalid"


class BodyTooLarge(Invalid):
    code = "body_too_large"


class WrongKey(Refused):
    """A sealed value cannot be opened with the encryption key klepaas was given."""

    code = "wrong_key"


class Outside(KlepaasError):
    """Another system is the reason."""

    code = "outside"


class Unavailable(Outside):
    """The other system cannot be reached or cannot answer now."""

    code = "unavailable"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        evidence: Mapping[str, Any] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message, hint=hint, evidence=evidence)
        self.retry_after = retry_after


class DatabaseUnavailable(Unavailable):
    """Our own memory cannot be reached now. Says nothing about a deployment: it is put down and taken up again."""

    code = "database_unavailable"


class NetworkTimeout(Unavailable):
    code = "network_timeout"


class EngineUnavailable(Unavailable):
    code = "engine_unavailable"


class AnswerLost(Unavailable):
    """The other system was told to change something and its answer did not come: it may have been done."""

    code = "answer_lost"


class DiskFull(Unavailable):
    code = "disk_full"


class Rejected(Outside):
    """The other system said no; the same request will be refused again."""

    code = "rejected"


class RepositoryNotFound(Rejected):
    code = "repository_not_found"


class BranchNotFound(Rejected):
    code = "branch_not_found"


class CommitNotFound(Rejected):
    code = "commit_not_found"


class AuthenticationFailed(Rejected):
    code = "authentication_failed"


class PermissionMissing(Rejected):
    """The other system knows who asks, and does not allow it."""

    code = "permission_missing"


class RepositoryTooLarge(Rejected):
    code = "repository_too_large"


class DockerfileNotFound(Rejected):
    code = "dockerfile_not_found"


class DockerfileAmbiguous(Rejected):
    code = "dockerfile_ambiguous"


class DockerfileEmpty(Rejected):
    code = "dockerfile_empty"


class DockerfileUnusable(Rejected):
    """It leaves the repository, is no ordinary file, or is far too large."""

    code = "dockerfile_unusable"


class ContextUnusable(Rejected):
    """The build context is not a folder of the repository."""

    code = "context_unusable"


class BuildFailed(Rejected):
    code = "build_failed"


class BuildTimeout(BuildFailed):
    code = "build_timeout"


class ImageMissing(Rejected):
    code = "image_missing"


class ManifestUnusable(Rejected):
    """A Kubernetes manifest of the repository cannot be edited without changing what was not asked for."""

    code = "manifest_unusable"


class ReleaseCommandFailed(Rejected):
    code = "release_command_failed"


class NotHealthy(Rejected):
    code = "not_healthy"


class SwitchFailed(Rejected):
    code = "switch_failed"


class EngineTooOld(Rejected):
    code = "engine_too_old"


class DeadlinePassed(Rejected):
    code = "deadline_passed"
