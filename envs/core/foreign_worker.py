"""A process with some copies of a foreign environment: `python -m fedsched.envs.core.foreign_worker PIPE MEMORY`.

Both arguments are file descriptors: of the pipe on which orders come, and of the file that holds the board.
"""

import signal
import sys
import traceback
from mmap import mmap
from multiprocessing.connection import Connection
from typing import Any

from fedsched.envs.core.foreign_board import lay_board
from fedsched.envs.core.foreign_copies import Copies
from fedsched.envs.core.foreign_layout import kinds_of
from fedsched.envs.core.foreign_pool import Failed, Order, Share
from fedsched.envs.core.world import WorldError


def serve(pipe: "Connection[Any, Any]", memory: mmap) -> None:
    """Builds the share that is sent, then follows orders until the pipe is closed."""
    try:
        copies = _build(pipe.recv(), memory)
        pipe.send(None)
        while True:
            pipe.send(_follow(copies, pipe.recv()))
    except (EOFError, ConnectionError):  # the other end is closed
        return
    except Exception as error:  # the parent raises it: a worker must not die in silence
        pipe.send(Failed(str(error) if isinstance(error, WorldError) else traceback.format_exc()))


def _build(share: Share, memory: mmap) -> Copies:
    first = share.make_env()
    kinds = kinds_of(first, share.numbered)
    board = lay_board([kind.spec for kind in kinds], share.batch, memory)
    return Copies(share.make_env, kinds, board.part(share.first, share.last), share.first, [first])


def _follow(copies: Copies, order: Order) -> Failed | None:
    try:
        if order.do == "reset":
            copies.reset(order.rows, order.seeds)
        else:
            copies.step(order.rows)
    except WorldError as error:
        return Failed(str(error))
    return None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's business, whose end ends the pipe
    descriptor, file = (int(argument) for argument in sys.argv[1:])
    serve(Connection(descriptor), mmap(file, 0))
