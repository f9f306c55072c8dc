"""A process that runs one SUMO simulation: `python -m fedsched.envs.intersections.sumo.worker FILE_DESCRIPTOR`."""

import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from fedsched.envs.intersections.sumo.batch import Advance, Failed, Finish, Request
from fedsched.envs.intersections.sumo.film import Film, film
from fedsched.envs.intersections.sumo.outputs import Trips
from fedsched.envs.intersections.sumo.simulation import SumoError, SumoSimulation


def serve(pipe: "Connection[Any, Any]") -> None:
    """Starts the simulation that is sent and answers requests until the pipe is closed."""
    try:
        with SumoSimulation(pipe.recv()) as simulation:
            pipe.send(simulation.time_s)
            while True:
                pipe.send(_answer(simulation, pipe.recv()))
    except EOFError:
        return
    except SumoError as error:
        pipe.send(Failed(str(error)))
    except Exception:  # the parent raises it: a worker must not die in silence
        pipe.send(Failed(traceback.format_exc()))


def _answer(simulation: SumoSimulation, request: Request) -> Film | Trips:
    match request:
        case Advance(stages):
            return film(simulation, stages)
        case Finish():
            return simulation.trips()
        case _:
            raise SumoError(f"unknown request {request!r}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's business, whose end ends the pipe
    serve(Connection(int(sys.argv[1])))
