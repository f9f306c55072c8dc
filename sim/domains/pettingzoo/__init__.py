"""Environments that nobody here wrote in a run."""
