"""The same episodes in another process with another hash seed: `python -m fedsched.envs.core.elsewhere WHAT ...`.

Prints a digest: of `world ENTRY SEED STEPS INSTANCE...`, or of `env ENTRY ARGUMENTS SEED CYCLES`. Or goes on with a
pickled environment from the pipe in `resume DESCRIPTOR`.
"""

import json
import os
import subprocess
import sys
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fedsched.envs.core.broken import CheckError, require
from fedsched.envs.core.entry_point import EntryPoint, load
from fedsched.envs.core.env_tour import Tour, replay, tour

HASH_SEEDS = (1, 2)
"""Sets and dicts keyed by them come in unlike orders."""


def check_elsewhere(known: str, *arguments: str) -> None:
    """Raises CheckError unless other processes print the digest `known` for these arguments."""
    for hash_seed in HASH_SEEDS:
        command = [sys.executable, "-m", "fedsched.envs.core.elsewhere", *arguments]
        environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        message = f"{arguments[1]} fails in a process of its own: {done.stderr[-500:]}"
        require(done.returncode == 0, "processes", message)
        same = done.stdout.split()[-1:] == [known]
        require(same, "processes", "another process with another hash seed plays differently")


def resume_elsewhere(packed: bytes, known: Tour, first: int, entry_point: str | None) -> None:
    """Raises CheckError unless another process goes on with a pickled environment as a tour does.

    Args:
        packed: The environment, standing before step `first`.
        known: The tour.
        first: Step to begin with.
        entry_point: Of the environment; loaded there first, since a class of a file is known under its module alone.
    """
    ours, theirs = Pipe()
    command = [sys.executable, "-m", "fedsched.envs.core.elsewhere", "resume", str(theirs.fileno())]
    path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    environment = os.environ | {"PYTHONHASHSEED": str(HASH_SEEDS[0]), "PYTHONPATH": path}
    with subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        ours.send((known, first, entry_point))
        ours.send_bytes(packed)
        try:
            answer = ours.recv()
        except EOFError:
            answer = f"its process ended with exit code {process.wait()}"
    require(answer is None, "pickle", f"{answer}")


def _resume(pipe: "Connection[Any, Any]") -> None:
    try:
        known, first, entry_point = pipe.recv()
        if entry_point is not None:
            load(entry_point)
        replay(pipe.recv(), known, "pickle", first)
    except CheckError as error:
        pipe.send(str(error).removeprefix(f"{error.law}: "))
    except Exception:  # whatever an environment does when it is put together again
        pipe.send(traceback.format_exc())
    else:
        pipe.send(None)


def _main(what: str, entry_point: str, *rest: str) -> None:
    if what == "resume":
        _resume(Connection(int(entry_point)))
        return
    if what == "world":
        from fedsched.envs.core.episodes import digest, play

        seed, steps, *instances = map(int, rest)
        pairs = [(instance, seed + n) for n, instance in enumerate(instances)]
        made = load(entry_point)
        found = digest([play(made(1), [pair], steps)[0] for pair in pairs])
    else:
        arguments, seed, cycles = json.loads(rest[0]), int(rest[1]), int(rest[2])
        found = tour(EntryPoint(entry_point, arguments)(), cycles, seed).digest()
    sys.stdout.write(f"\n{found}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
