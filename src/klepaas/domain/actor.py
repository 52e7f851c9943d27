"""Who acts, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum

from klepaas.errors import NotAllowed


class Scope(StrEnum):
    READ = "read"
    """See projects, deployments, logs; where the owner is the operator's own, metrics."""
    DEPLOY = "deploy"
    """Also start, cancel and roll back deployments."""
    ADMIN = "admin"
    """Also register and configure projects, set variables, make tokens for the same owner."""
    OPERATOR = "operator"
    """Also act for every owner: make owners and their tokens, register local repositories."""


OPERATORS_OWNER = "operator"
"""The name of the operator's own owner: the one of the first token, and of others only where the operator made them."""

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

    def require_view_of_all(self, operators_id: str | None) -> None:
        """Refuse numbers about all owners to whoever is neither the operator nor belongs to the operator's own owner,
        of this id. A scope is not asked for: what only counts needs no power. Errors: NotAllowed."""
        if self.scope is not Scope.OPERATOR and self.owner_id != operators_id:
            raise NotAllowed(
                f"Numbers about all owners are for the operator, and {self.label} is another owner's.",
                hint="The operator makes a token for Prometheus with: klepaas tokens create prometheus --scope read",
            )

    def owns(self, owner_id: str) -> bool:
        return self.scope is Scope.OPERATOR or self.owner_id == owner_id
