"""What the command lines share: a parser that answers in one sentence, and argument types."""

import argparse
from typing import NoReturn

from preprocess.untrusted import printable


class OneSentenceParser(argparse.ArgumentParser):
    """argparse, but a wrong flag gets one sentence rather than the usage of all flags; exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(message)} (see --help)\n")


def positive(text: str) -> int:
    """A whole number of at least one.

    Raises:
        ValueError, argparse.ArgumentTypeError: anything else; argparse turns both into exit status 2.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number
