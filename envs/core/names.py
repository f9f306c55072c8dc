"""Names that nobody knows, and what may have been meant."""

import difflib
from collections.abc import Sequence


def unknown_name(what: str, name: str, known: Sequence[str]) -> str:
    """A message that there is no such thing, with the nearest name and all there are."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"no {what} {name!r}{hint}; there are {', '.join(known)}"
