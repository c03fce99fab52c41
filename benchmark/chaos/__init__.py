"""Faults at random moments of small training runs, each resumed and compared with the uninterrupted run."""
