"""The package imports without Flower, and switches off what Flower would do behind the user's back."""

import subprocess
import sys

import pytest

import fedsched.federation as federation


def test_importing_the_package_imports_no_flower_and_switches_telemetry_off() -> None:
    code = (
        "import os, sys; [os.environ.pop(k) for k in list(os.environ) if k.startswith('FLWR_')]\n"
        "import fedsched.federation as f; from fedsched.federation import Update, FederationError\n"
        "print('flwr' in sys.modules, os.environ['FLWR_TELEMETRY_ENABLED'], os.environ['FLWR_DISABLE_UPDATE_CHECK'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "0", "1"]


def test_every_public_name_is_there() -> None:
    for name in federation.__all__:
        assert getattr(federation, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Fedaration'"):
        federation.__getattr__("Fedaration")
