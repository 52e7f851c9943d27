"""Which step belongs to which stage."""

from dataclasses import dataclass

from klepaas.domain.status import Stage
from klepaas.workflows.making import Making
from klepaas.workflows.outcome import Step
from klepaas.workflows.running import Running


@dataclass(frozen=True)
class Steps:
    making: Making
    running: Running

    def of(self, stage: Stage) -> Step:
        return {
            Stage.FETCH: self.making.fetch,
            Stage.BUILD: self.making.build,
            Stage.RELEASE: self.running.release,
            Stage.VERIFY: self.running.verify,
            Stage.PROMOTE: self.running.promote,
            Stage.RETIRE: self.running.retire,
        }[stage]
