"""Convert raw KiTS19 cases to ``case_XXXXX_x.npy`` and ``_y.npy``, or verify them; see ``--help``."""

import sys

from preprocess.cli import main

if __name__ == "__main__":
    sys.exit(main())
