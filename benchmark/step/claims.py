"""What a measurement was to show, and whether it does."""

from collections.abc import Mapping
from typing import Any

Claim = dict[str, Any]
"""``claim``, a sentence; ``value`` and ``limit``, ratios to the reference; ``met``, null where the
measurement cannot tell."""


def at_least(claim: str, ratio: Mapping[str, float | None], limit: float) -> Claim:
    """A ratio with its interval is not below the limit; one whose interval holds the limit cannot tell."""
    met = None
    if ratio["low"] is not None and ratio["high"] is not None:
        met = True if ratio["low"] >= limit else False if ratio["high"] < limit else None
    return {"claim": claim, "value": ratio["value"], "limit": limit, "met": met}


def at_most(claim: str, value: float, limit: float) -> Claim:
    """A ratio of numbers that were counted is not above the limit."""
    return {"claim": claim, "value": value, "limit": limit, "met": value <= limit}


def below(claim: str, value: float, limit: float) -> Claim:
    """As `at_most`, but the limit itself will not do."""
    return {"claim": claim, "value": value, "limit": limit, "met": value < limit}
