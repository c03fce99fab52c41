"""What can go wrong, as sentences for the person at the terminal."""


class CaseError(Exception):
    """One case cannot be converted; the message says what was expected and what to do."""


class UsageError(Exception):
    """The run cannot start at all; the message says why and what to do. Exit status 2."""
