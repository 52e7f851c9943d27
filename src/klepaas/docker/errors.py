"""The ways a Docker engine says no, told apart by what the caller can do about them."""

from klepaas.errors import Rejected


class EngineRejected(Rejected):
    """The engine refused, in its own words."""

    code = "engine_rejected"


class EngineNotFound(EngineRejected):
    """There is no such container or image (any more)."""

    code = "engine_not_found"


class EngineConflict(EngineRejected):
    """The object is not in a state that allows this, or somebody else uses it."""

    code = "engine_conflict"


class NameTaken(EngineConflict):
    """A container of this name exists: somebody created it first."""

    code = "name_taken"


class NotRunning(EngineConflict):
    """The container does not run, or is paused."""

    code = "not_running"


class NetworkBroken(EngineRejected):
    """The engine cannot connect containers to the network any more: somebody emptied its chains of the firewall."""

    code = "engine_network_broken"


class PortTaken(EngineRejected):
    """Another program listens on the port the container should publish."""

    code = "port_taken"
