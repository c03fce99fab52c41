"""Is a run legal in MLPerf's closed division? ``python -m runtime.preflight`` with the flags of ``main.py``.

Start it before a closed run, or a series of them, and before the caches are dropped: it reads the data set.

It takes every flag of ``main.py``, so that it judges the run that they ask for, and three of its own: --ranks
(the processes that the run will have), --seeds (those of all runs of a series) and --rehash. It

* judges settings, global batch, evaluation schedule and seeds by training_rules.adoc;
* hashes the data set, compares the md5s with the published ones, and looks for what does not belong there;
* writes what it found out about the files, with size and modification time of each, to ``--mlperf_stamp`` (or
  ``LOG_DIR/preflight.json``): the run itself only compares sizes and times. A later call does not read files
  again whose size and time are those of the stamp; --rehash reads all;
* prints a table, one line for each rule. A rule that cannot be judged is off.

The run checks for itself that caches were dropped, and that no file has changed.

Exit status: 0 all is legal, 1 a rule is off, 2 a wrong flag, 130 Ctrl-C.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

from preprocess.flags import OneSentenceParser
from preprocess.verify import load_table
from runtime.arguments import add_run_flags, run_config
from runtime.loader_arguments import number
from runtime.preflight.batches import batch_findings
from runtime.preflight.data import data_findings
from runtime.preflight.folder import folder_finding
from runtime.preflight.insist import OPEN, sentence, those_off
from runtime.preflight.renew import renewed_stamp
from runtime.preflight.seeds import seed_findings
from runtime.preflight.settings import caches_finding, setting_findings
from runtime.preflight.show import show


def build_parser() -> argparse.ArgumentParser:
    """The flags of a run, and those of the judgement."""
    parser = OneSentenceParser(
        prog="python -m runtime.preflight",
        description="Is a run legal in MLPerf's closed division? Takes the flags of main.py. Exit status: 0 "
        "all is legal, 1 a rule is off, 2 a wrong flag.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add_run_flags(parser)
    add = parser.add_argument_group("Preflight parameters").add_argument
    add("--ranks", type=number(int, 1), default=1, help="processes of the run, evaluation ranks included")
    add(
        "--seeds", type=number(int, -1, 2**63 - 1), nargs="+", metavar="SEED",
        help="seeds of all runs of the series, in place of --seed",
    )  # fmt: skip
    add("--rehash", action="store_true", help="read every file of the data set again")
    return parser


def main(argv: Sequence[str] | None = None, table: Mapping[str, str] | None = None) -> int:
    """Run the command line; the exit status. ``table`` stands in for the published md5s."""
    parser = build_parser()
    flags = parser.parse_args(argv)
    config = run_config(parser, flags)
    table = load_table() if table is None else table
    try:
        findings = [
            *setting_findings(config),
            *batch_findings(config, flags.ranks),
            caches_finding(None),
            *seed_findings(config, flags.seeds or (config.seed,)),
            folder_finding(config.log_dir),
            *data_findings(renewed_stamp(config, table, flags.rehash), table, config.loader),
        ]
    except KeyboardInterrupt:
        print("interrupted: no stamp was written", file=sys.stderr)
        return 130
    show(findings)
    off = those_off(findings)
    if not off:
        print("legal for the closed division")
        return 0
    rules = "1 rule is" if len(off) == 1 else f"{len(off)} rules are"
    print(f"error: {rules} off for the closed division, first {sentence(off[0])}; {OPEN}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
