"""Argument types that the command lines share."""

import argparse


def positive(text: str) -> int:
    """A whole number of at least one.

    Raises:
        ValueError, argparse.ArgumentTypeError: anything else; argparse turns both into exit status 2.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number
