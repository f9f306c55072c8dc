"""Cities with signals in a run."""
