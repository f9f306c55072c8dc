"""Imports typer once, apart from the tests: 0.20 asks click for a name that click has deprecated."""

import importlib
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("typer.testing")
