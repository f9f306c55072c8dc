"""Functions named by text: `package.module:function`, or `folder/file.py:function` for a file that is no module."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from fedsched.envs.core.world import WorldError


class EntryPointError(WorldError):
    """An entry point that names nothing callable; the message says what was looked for."""


class ArgumentsError(EntryPointError):
    """A function that cannot be called with these arguments."""


def load(entry_point: str) -> Callable[..., Any]:
    """The function that an entry point names.

    Args:
        entry_point: `package.module:function`, or a path that ends in `.py` and `:function`.

    Raises:
        EntryPointError: Another form, a module or file that is not there or fails, or no such function in it.
    """
    place, colon, name = entry_point.rpartition(":")
    if not colon or not place or not name:
        raise EntryPointError(f"{entry_point!r} is no entry point; write 'package.module:function'")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    found = getattr(module, name, None)
    if not callable(found):
        raise EntryPointError(f"{place} has no function {name!r}; write 'package.module:function'")
    made: Callable[..., Any] = found
    return made


def _from_path(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            message = (
                f"there is no module {error.name!r}; install its package, or name a file: 'path/to/file.py:function'"
            )
            raise EntryPointError(message) from error
        raise EntryPointError(f"{place} cannot be imported, it needs {error.name!r}: install that") from error
    except Exception as error:  # whatever a module does while it is imported
        raise EntryPointError(f"{place} cannot be imported: {type(error).__name__}: {error}") from error


def _from_file(file: Path) -> ModuleType:
    name = f"fedsched_file_{file.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(file.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if not file.is_file() or spec is None or spec.loader is None:
        raise EntryPointError(f"there is no file {str(file)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that what it defines can be pickled
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise EntryPointError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return module


@dataclass(frozen=True)
class EntryPoint:
    """A call that can be sent to another process.

    Attributes:
        entry_point: See `load`.
        arguments: Keyword arguments.
    """

    entry_point: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> object:
        """Calls the function.

        Raises:
            EntryPointError: See `load`.
            ArgumentsError: The function does not take the arguments, or fails.
        """
        made = load(self.entry_point)
        try:
            return made(**self.arguments)
        except Exception as error:  # whatever the function of somebody else does
            shown = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
            raise ArgumentsError(f"{self.entry_point}({shown}) raised {type(error).__name__}: {error}") from error
