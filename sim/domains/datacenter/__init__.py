"""Data centres in a run."""
