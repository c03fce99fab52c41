"""What the official checkers answer, and the verdict in it.

Several end with status 0 whatever they found, so a verdict is what they print.
"""

import csv
import re
from dataclasses import dataclass, field

from benchmark.mllog.score import DROPPED
from benchmark.submission.layout import BENCHMARK

_UNCONVERGED = re.compile(
    r"eval_accuracy: v\['value'\] >= 0\.908|Required AT_LEAST_ONE occurrence of 'eval_accuracy' but found 0"
    r"|Required AT_LEAST_ONE occurrence of .*'block_stop'.*"
)
"""What the compliance checker says of a run that never reached the target, or ended in its first block."""

_BYPASS = re.compile(r", consider adding --rcp_bypass.*")
"""Advice of rcp_checker that no submission may take."""

_COMPLAINT = re.compile(
    r"^(?:WARNING -  )?(CHECK for|Failed|Required|Log lines had|No log lines|Could not find|failed test)"
)


MEND = {
    "compliance_checker": "make the runs of these logs again",
    "system_desc_checker": "mend the description in systems",
    "package_checker": "mend what it names",
    "seed_checker": "make runs again, each with a seed of its own",
    "rcp_checker": "find out why convergence differs from the reference's, and make all runs again",
    "repo_checker": "rename, shrink or remove what it names",
    "result_summarizer": "mend what the others name first, then the numbers in the system description",
}
"""What to do where a checker fails."""


@dataclass(frozen=True)
class Answer:
    """What a process printed, standard output and error in turn, and how it ended."""

    command: tuple[str, ...]
    status: int
    text: str
    tables: dict[str, str] = field(default_factory=dict)
    """Files that it left in its folder, by name."""

    @property
    def lines(self) -> list[str]:
        """Of the text."""
        return self.text.splitlines()

    @property
    def last(self) -> str:
        """The last line that says something: of a traceback, its error."""
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "it printed nothing")

    @property
    def whole(self) -> str:
        """For people."""
        return f"$ {' '.join(self.command)}\n{self.text}exit status {self.status}\n"


@dataclass(frozen=True)
class Verdict:
    """One checker's."""

    tool: str
    passed: bool
    says: str
    """In a few words."""
    objections: tuple[str, ...] = ()
    """What it complains about, also where that is tolerated."""
    outputs: dict[str, str] = field(default_factory=dict)
    """All it printed and wrote, by the names of files to keep it in."""

    @property
    def line(self) -> str:
        """For people."""
        if self.passed:
            return f"OK ({self.says})" if self.says else "OK"
        return f"FAILED ({self.says}): {MEND[self.tool.split()[0]]}"


def compliance(answers: dict[str, Answer], systems: int) -> Verdict:
    """Of the compliance checker, by its answers for the logs of so many systems."""
    complaints = {name: complaints_of(answer) for name, answer in answers.items() if answer.status != 0}
    broken = {
        name: said
        for name, said in complaints.items()
        if not said or not all(map(_UNCONVERGED.fullmatch, said))
    }
    missed = len(complaints) - len(broken)
    says = f"{len(answers) - len(complaints)} of {len(answers)} logs"
    if missed:
        says += f"; {missed} never reached the target, and olympic scoring accepts {DROPPED} of a result"
    if broken:
        name, said = next(iter(broken.items()))
        says += f"; {len(broken)} do not comply, first {name}: {said[0] if said else answers[name].last}"
    return Verdict(
        "compliance_checker",
        not broken and missed <= DROPPED * systems and bool(answers),
        says,
        tuple(f"{name}: {one}" for name, said in complaints.items() for one in said or ["crashed"]),
        {"compliance_checker.txt": "\n".join(answer.whole for answer in answers.values())},
    )


def complaints_of(answer: Answer) -> list[str]:
    """What the compliance checker complains about, each in a line that does not depend on the log's place."""
    found: list[str] = []
    key = None
    for line in answer.lines:
        if not (kind := _COMPLAINT.match(line)):
            continue
        line = line.removeprefix("WARNING -  ")
        if check := re.match(r"CHECK for '(\w+)' failed", line):
            key = check[1]
        elif kind[1] == "failed test" and key:
            found.append(f"{key}: {line.removeprefix('failed test:').strip()}")
            key = None
        elif check := re.match(r"Failed checks for (\w+) : (.*)", line):
            found.append(f"{check[1]}: {check[2].strip()}")
        else:
            found.append(line.strip())
    return list(dict.fromkeys(found))


def package(answer: Answer, systems: int) -> list[Verdict]:
    """Of package_checker, and of the seed checker inside it, which it skips for a division Closed."""
    ran = all(answer.text.count(f"Running {name} Checker") == systems for name in ("Seed", "RCP"))
    seeds = [line for line in answer.lines if re.match("Error found when|Result file .* seed", line)]
    if first := re.search(r"found the following errors: (.*)", answer.text):
        seeds.insert(0, first[1])
    seed_passed = ran and "Seed checker failed" not in answer.text
    says = "each run has a seed of its own" if seed_passed else seeds[0] if seeds else "it did not run"
    return [
        plain("package_checker", answer, "PACKAGE CHECKER FOUND NO ERRORS"),
        Verdict("seed_checker", seed_passed, says, tuple(seeds)),
    ]


def plain(tool: str, answer: Answer, success: str) -> Verdict:
    """Of a checker that prints ``success`` where it finds nothing, and its errors else."""
    passed = answer.status == 0 and success in answer.text
    errors = [_BYPASS.sub("", line[7:]).strip() for line in answer.lines if line.startswith("ERROR -")]
    if not passed and not errors:
        errors = [answer.last]
    return Verdict(
        tool, passed, "; ".join(errors), tuple(errors), {f"{tool.replace(' ', '_')}.txt": answer.whole}
    )


def summary(answer: Answer, systems: int) -> Verdict:
    """Of result_summarizer, which is to have a time for each system."""
    rows = list(csv.DictReader(answer.tables.get("summary_detailed.csv", "").splitlines()))
    errors = [line for line in answer.lines if re.match(r"(\*\* )?CRITICAL ERROR|ERROR: |WARNING: ", line)]
    scores = []
    for row in rows:
        minutes, rcp = row[f"{BENCHMARK}:time_to_train"], row[f"{BENCHMARK}:RCP"]
        if not minutes or rcp != "Pass":
            errors.append(f"{row['system']}: {minutes or 'no'} minutes to train, RCP: {rcp or 'not judged'}")
            continue
        factor = float(row[f"{BENCHMARK}:rcp_scaling_factor"])
        scaled = f", scaled by {factor:.4f} (scaling.json)" if factor != 1 else ""
        scores.append(f"{row['system']}: {float(minutes):.2f} minutes{scaled}")
    if answer.status != 0:
        errors.append(answer.last)
    if len(rows) != systems:
        errors.append(f"{len(rows)} systems in its table, expected {systems}")
    outputs = {"result_summarizer.txt": answer.whole} | answer.tables
    return Verdict("result_summarizer", not errors, "; ".join(errors or scores), tuple(errors), outputs)
