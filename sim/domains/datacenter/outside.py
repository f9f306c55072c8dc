"""Logs that are not shipped, as `fedsched doctor` finds them."""

import os
from pathlib import Path

from fedsched.envs.datacenter.trace import FOLDER_VARIABLE, OUTSIDE


def examine() -> list[tuple[str, str, str]]:
    """What was looked at, what was found, and what to do about it; nothing where all is well."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        logs = " and ".join(OUTSIDE)
        return [(FOLDER_VARIABLE, f"not set; {logs} cannot be used, all that is shipped can", "")]
    found = {log: (Path(folder) / file).is_file() for log, file in OUTSIDE.items()}
    missing = [OUTSIDE[log] for log, is_there in found.items() if not is_there]
    state = f"{folder}: {', '.join(log for log, is_there in found.items() if is_there) or 'nothing found'}"
    return [(FOLDER_VARIABLE, state, f"put {' and '.join(missing)} there, or unset it" if missing else "")]
