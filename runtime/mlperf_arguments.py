"""What a run says of itself as an MLPerf submission: the flags and their values."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

RULESETS = ("1.0.0", "1.1.0", "2.0.0", "2.1.0", "3.0.0", "3.1.0", "4.0.0")
"""Of mlperf_logging, those with unet3d; there was no round of it after v4.0."""

DIVISIONS = ("closed", "open", "closed-test")
STATUSES = ("onprem", "cloud", "preview", "research")
"""What the compliance checker takes for ``submission_status``."""

TEST_PLATFORM = "TEST, not for submission: "
"""``submission_platform`` of a run under closed-test begins with this, so that no package takes it."""

NO_CONTAINER = "none"


@dataclass(frozen=True, kw_only=True)
class MlperfConfig:
    """The submission that a run is part of."""

    division: str = "open"
    """``closed-test`` logs the closed division, to try its checkers, and marks the run as a test."""
    ruleset: str = "4.0.0"
    org: str = "voxelrate"
    status: str = "research"
    platform: str = ""
    """Empty: the number of ranks and the kind of device."""
    stamp: Path | None = None
    """What `runtime.preflight` found out about the data; None: ``preflight.json`` beside the log."""
    container: str = ""
    """Digest of the image that it runs in, ``none`` outside any, empty where nobody said."""

    @property
    def logged_division(self) -> str:
        """As in ``submission_division``."""
        return "open" if self.division == "open" else "closed"

    def logged_platform(self, ranks: int, device: str) -> str:
        """As in ``submission_platform``."""
        platform = self.platform or f"{ranks}x{device}"
        return f"{TEST_PLATFORM}{platform}" if self.division == "closed-test" else platform


def in_samples(ruleset: str) -> bool:
    """Whether ``epoch_num`` of an evaluation counts samples, as reference convergence points do from v3.1."""
    return tuple(map(int, ruleset.split("."))) >= (3, 1, 0)


def _container(text: str) -> str:
    if text in ("", NO_CONTAINER) or re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is no digest: expected sha256: and 64 hexadecimal digits (docker image inspect), or none"
    )


def _named(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a name, found nothing")
    return text


def add_mlperf_flags(group: argparse._ArgumentGroup) -> None:
    """The flags of a submission."""
    default = MlperfConfig()
    add = group.add_argument
    add(
        "--mlperf_division", default=default.division, choices=DIVISIONS,
        help="closed is refused unless python -m runtime.preflight finds the run legal; closed-test logs a "
        "closed run that is marked as a test",
    )  # fmt: skip
    add("--mlperf_ruleset", default=default.ruleset, choices=RULESETS, help="rules to log by")
    add("--mlperf_org", default=default.org, type=_named, help="submission_org of the log")
    add("--mlperf_status", default=default.status, choices=STATUSES, help="submission_status of the log")
    add("--mlperf_platform", default="", help="submission_platform of the log; empty: ranks x device")
    add("--mlperf_stamp", type=Path, help="file of runtime.preflight's findings about the data")
    add(
        "--mlperf_container", default="", type=_container,
        help="sha256:... of the image that the run is in, or none",
    )  # fmt: skip


def mlperf_config(flags: argparse.Namespace) -> MlperfConfig:
    """From the parsed flags."""
    return MlperfConfig(
        **{field: getattr(flags, f"mlperf_{field}") for field in MlperfConfig.__dataclass_fields__}
    )
