"""``python -m benchmark.calibrate.pairs``: is the quick comparison right, time and again?

Twenty times the shipped code is compared with itself, which is to say SAME, and with its step made a tenth
slower, which is to say SLOWER. The three run at the same time, in turns.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT
from benchmark.quick import Live, Variant, measure
from benchmark.ratio import QUICK_FLOOR, Verdict, judge
from benchmark.record import Record, write_record
from pipelines.errors import DataError
from preprocess.flags import OneSentenceParser, positive
from runtime.statistics import show

_INJECTED = ["--step", "benchmark.calibrate.slower:step"]
_EXPECTED = {"same": Verdict.SAME, "slower": Verdict.SLOWER}
_WINDOW_S, _SLICE_S, _PAIRS = 20.0, 1.0, 10


def main() -> int:
    """Measure, the two kinds in turn, and print; 1 where one of them fails more than once in 20."""
    parser = OneSentenceParser(prog="python -m benchmark.calibrate.pairs", description=__doc__)
    parser.add_argument("--comparisons", type=positive, default=20, help="of each kind (20)")
    parser.add_argument("--json", type=Path, help="also write a record here")
    parser.add_argument(
        "flags", nargs=argparse.REMAINDER, metavar="-- FLAG", help="of profile, for both sides"
    )
    options = parser.parse_args()
    flags = [flag for flag in options.flags if flag != "--"]
    found: list[dict[str, Any]] = []
    try:
        for number in range(options.comparisons):
            for comparison in _compared(flags):
                found.append(comparison)
                said = f"{show(comparison['interval'])} {comparison['verdict']}"
                print(f"{number + 1} {comparison['kind']}: {said}", flush=True)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    counts = {kind: dict(Counter(c["verdict"] for c in found if c["kind"] == kind)) for kind in _EXPECTED}
    right = {kind: counts[kind].get(expected, 0) for kind, expected in _EXPECTED.items()}
    print(f"right of {options.comparisons}: {right}; all verdicts: {counts}")
    if options.json:
        results = {
            "window_s": _WINDOW_S, "slice_s": _SLICE_S, "pairs": _PAIRS, "noise_floor": QUICK_FLOOR,
            "injected": "10 % of a step's time", "verdicts": counts, "comparisons": found,
        }  # fmt: skip
        command = ["python", "-m", "benchmark.calibrate.pairs", *sys.argv[1:]]
        write_record(Record(suite="quick-comparisons", command=command, results=results), options.json)
    return 0 if all(count >= 0.95 * options.comparisons for count in right.values()) else 1


def _compared(flags: list[str]) -> Iterator[dict[str, Any]]:
    """The two comparisons of a run of the three."""
    live = Live(3)
    variants = [Variant(flags, ROOT), Variant(flags, ROOT), Variant([*flags, *_INJECTED], ROOT)]
    measure(variants, _WINDOW_S, _SLICE_S, _PAIRS, live)
    for variant, kind in enumerate(_EXPECTED, start=1):
        ratio = live.ratio(variant)
        yield {
            "kind": kind,
            "verdict": str(judge(ratio, QUICK_FLOOR)),
            "interval": ratio,
            "first": live.rates[0],
            "second": live.rates[variant],
        }


if __name__ == "__main__":
    sys.exit(main())
