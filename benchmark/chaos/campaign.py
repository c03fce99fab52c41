"""Cycle after cycle, one or several at a time."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from benchmark.chaos.cycle import Cycle, Outcome, Stage
from benchmark.chaos.deal import Plan
from benchmark.chaos.faults.base import MissedError
from benchmark.chaos.judgement import SURVIVED, UNDOCUMENTED, Verdict
from benchmark.chaos.references import References
from benchmark.chaos.running import Interrupted

_TRIES = 4
"""Each at half of the moment of the one before."""


@dataclass
class Campaign:
    """What was tried so far; kept up to date, so that it can be written at any time."""

    stage: Stage
    references: References
    seed: int
    parallel: int
    say: Callable[[str], None]
    no_mounts: str = ""
    """Why nothing can be mounted; empty where it can."""
    cycles: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Kinds of faults that could not be tried -> why."""

    def run(self, plans: Iterator[Plan], is_over: Callable[[int, float], bool]) -> None:
        """Go through ``plans`` until ``is_over(cycles begun, seconds since the beginning)``.

        Raises:
            RunError, OSError: It cannot go on.
            KeyboardInterrupt, SystemExit: It was interrupted; all processes have ended.
        """
        begin, begun = time.monotonic(), 0
        under_way: set[Future[None]] = set()
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="cycle") as pool:
            try:
                while not is_over(begun, time.monotonic() - begin):
                    plan = next(plans, None)
                    if plan is None:
                        break
                    if self._skips(plan):
                        continue
                    begun += 1
                    under_way.add(pool.submit(self._go_through, plan))
                    if len(under_way) == self.parallel:
                        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                        for future in done:
                            future.result()
                for future in under_way:
                    future.result()
            except BaseException:
                self.stage.interrupted.set()
                raise

    def _skips(self, plan: Plan) -> bool:
        if not (plan.fault.needs_mounts and self.no_mounts):
            return False
        self.skipped[plan.fault.name] = f"needs a file system of its own: {self.no_mounts}"
        return True

    def _go_through(self, plan: Plan) -> None:
        try:
            cycle = Cycle(plan, self.references.get(plan.configuration), self.stage)
            outcome = self._tried(plan, cycle)
        except Interrupted:
            return
        ok = outcome.verdict.outcome == SURVIVED
        self.cycles.append(self._noted(plan, outcome))
        line = (
            f"{plan.number:3d}  {plan.fault.name} ({plan.configuration.name}; {outcome.what}): "
            f"{outcome.verdict.outcome}, {outcome.lost_steps} steps lost, {outcome.seconds:.1f} s"
        )
        if ok:
            shutil.rmtree(cycle.folder)
            self.say(line)
            return
        reasons = "".join(f"\n     {reason}" for reason in outcome.verdict.reasons)
        again = f"python -m benchmark chaos --seed {self.seed} --only {plan.number}"
        self.say(f"{line}{reasons}\n     left: {cycle.folder}; again: {again}")

    def _tried(self, plan: Plan, cycle: Cycle) -> Outcome:
        moment = plan.moment
        for _ in range(_TRIES):
            try:
                return cycle.go_through(moment)
            except MissedError:
                moment = moment / 2 if moment >= 0 else (moment - 1) / 2
        verdict = Verdict(UNDOCUMENTED, (f"in {_TRIES} tries the fault came too late or had nothing to hit",))
        return Outcome("missed", verdict, 0, 0.0)

    def _noted(self, plan: Plan, outcome: Outcome) -> dict[str, Any]:
        """A cycle as plain values, without this machine's paths."""
        reasons = [reason.replace(f"{self.stage.work}/", "") for reason in outcome.verdict.reasons]
        return {
            "number": plan.number,
            "fault": plan.fault.name,
            "configuration": plan.configuration.name,
            "moment": plan.when,
            "what": outcome.what,
            "outcome": outcome.verdict.outcome,
            "reasons": reasons,
            "lost_steps": outcome.lost_steps,
            "seconds": round(outcome.seconds, 2),
        }
