"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path; what is written there takes the place of `path` in one step, or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes sure that the names in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, data: object) -> None:
    """Writes JSON whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(data, enc_hook=plain), indent=1) + b"\n")


def plain(value: object) -> object:
    """Numbers and arrays of numpy and torch as JSON knows them."""
    for method in ("tolist", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise NotImplementedError(f"a {type(value).__name__} cannot be written as JSON")
