"""Who acts, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum

from klepaas.errors import NotAllowed


class Scope(StrEnum):
    READ = "read"
    """See projects, deployments, logs."""
    DEPLOY = "deploy"
    """Also start, cancel and roll back deployments."""
    ADMIN = "admin"
    """Also register and configure projects, set variables, make tokens for the same owner."""
    OPERATOR = "operator"
    """Also act for every owner: make owners and their tokens, register local repositories, read metrics."""


_RANK = {Scope.READ: 0, Scope.DEPLOY: 1, Scope.ADMIN: 2, Scope.OPERATOR: 3}


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A person, a token, a webhook or klepaas itself, acting for one owner."""

    owner_id: str
    scope: Scope
    label: str
    """Shown in the history: `token laptop`, `webhook`, `klepaas`."""

    def require(self, scope: Scope) -> None:
        """Refuse what the actor's scope does not allow. Errors: NotAllowed."""
        if _RANK[self.scope] < _RANK[scope]:
            raise NotAllowed(
                f"This needs the scope '{scope}', and {self.label} has '{self.scope}'.",
                hint="Use a token with that scope, or ask the operator for one.",
            )

    def owns(self, owner_id: str) -> bool:
        return self.scope is Scope.OPERATOR or self.owner_id == owner_id
