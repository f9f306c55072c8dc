"""Values that name something shipped, or a file of the user's own."""

from pathlib import Path

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError


def name_or_file(value: str, info: ValidationInfo, names: tuple[str, ...], suffixes: tuple[str, ...]) -> str:
    """A known name as it is, a file as an absolute path.

    A relative path is looked up beside the scenario file, then in the current folder.
    """
    if value in names:
        return value
    folder: Path = (info.context or {}).get("folder", Path())
    places = [folder / value, Path(value)]
    if any(place.is_dir() for place in places):
        raise PydanticCustomError("folder", "{text}", {"text": f"{value!r} is a folder; name the file in it"})
    expected = ", ".join(repr(name) for name in names)
    if not value.endswith(suffixes):
        known = f"one of {expected} or " if names else ""
        text = f"{known}a file that ends in {' or '.join(suffixes)} is needed"
        raise PydanticCustomError("unknown_name", "{text}", {"text": text, "expected": expected})
    for place in places:
        if place.is_file():
            return str(place.resolve())
    tried = " and ".join(dict.fromkeys(str(place.absolute()) for place in places))
    raise PydanticCustomError("missing_file", "{text}", {"text": f"there is no file {value!r}; looked for {tried}"})
