"""A stand-in of Naver Cloud: real HTTP servers with its APIs, git, registry and cluster, also with their failures."""

from klepaas.testing.ncp.application import Requested
from klepaas.testing.ncp.build import Build, BuildProject
from klepaas.testing.ncp.cluster import Cluster
from klepaas.testing.ncp.deploy import Deploy, DeployProject
from klepaas.testing.ncp.faults import Ending, Fault, Faults, Kind, Lags, Quirks, RunFault
from klepaas.testing.ncp.handle import StandInRepository
from klepaas.testing.ncp.pipeline import PipelineProject, PipelineRun
from klepaas.testing.ncp.server import StandInNcp
from klepaas.testing.ncp.signature import KeyPair, signature

__all__ = [
    "Build",
    "BuildProject",
    "Cluster",
    "Deploy",
    "DeployProject",
    "Ending",
    "Fault",
    "Faults",
    "KeyPair",
    "Kind",
    "Lags",
    "PipelineProject",
    "PipelineRun",
    "Quirks",
    "Requested",
    "RunFault",
    "StandInNcp",
    "StandInRepository",
    "signature",
]
