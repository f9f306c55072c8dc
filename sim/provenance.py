"""What a run was made with: versions, git, machine; and the switches that keep other packages from calling home."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import fedsched

PACKAGES = (
    "torch", "numpy", "warp-lang", "flwr", "ray", "pettingzoo", "gymnasium", "pyarrow", "pydantic", "cryptography",
    "pynacl", "msgspec", "pyyaml", "rich", "typer",
)  # fmt: skip
"""The packages whose versions may matter to a result."""

SILENCE = {"RAY_USAGE_STATS_ENABLED": "0", "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""Environment variables that switch telemetry and update checks off."""


def silence() -> None:
    """Switches telemetry of the packages we build on off, for this process and its children."""
    os.environ.update(SILENCE)


def versions() -> dict[str, str | None]:
    """Version of fedsched, Python and each package; None where a package is not installed."""
    found: dict[str, str | None] = {"fedsched": fedsched.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_state() -> dict[str, str | bool] | None:
    """Commit of the checkout that fedsched runs from and whether files differ from it; None outside a checkout."""
    root = Path(fedsched.__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None

    def ask(*arguments: str) -> str | None:
        done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "changed": bool(changes)}
