"""Where kernels run: Warp, started once and quietly."""

import os
import sys
from functools import cache
from pathlib import Path

import warp as wp

wp.config.log_level = 40  # errors only: the banner and compile notes are not the user's business
wp.config.enable_backward = False


@cache
def start_warp() -> None:
    """Starts Warp without the line its native part prints on a machine without a CUDA driver."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            wp.get_devices()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
