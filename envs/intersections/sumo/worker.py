"""A process that runs one SUMO simulation: `python -m fedsched.envs.intersections.sumo.worker FILE_DESCRIPTOR`."""

import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from fedsched.envs.intersections.sumo.batch import Advance, Failed, Finish, Guarding, Request
from fedsched.envs.intersections.sumo.film import Film, film
from fedsched.envs.intersections.sumo.gatekeeper import Gatekeeper
from fedsched.envs.intersections.sumo.outputs import Trips
from fedsched.envs.intersections.sumo.simulation import SumoError, SumoSimulation


def serve(pipe: "Connection[Any, Any]") -> None:
    """Starts the simulation that is sent and answers requests until the pipe is closed."""
    try:
        with SumoSimulation(pipe.recv()) as simulation:
            pipe.send(simulation.time_s)
            gates: Gatekeeper | None = None
            while True:
                request = pipe.recv()
                if isinstance(request, Guarding):
                    gates = Gatekeeper(request.gates, simulation.setup.begin_s)
                    pipe.send(len(request.gates.guards))
                else:
                    pipe.send(_answer(simulation, request, gates))
    except EOFError:
        return
    except SumoError as error:
        pipe.send(Failed(str(error)))
    except Exception:  # the parent raises it: a worker must not die in silence
        pipe.send(Failed(traceback.format_exc()))


def _answer(simulation: SumoSimulation, request: Request, gates: Gatekeeper | None) -> Film | Trips:
    match request:
        case Advance(stages, limits):
            if gates is not None and limits is not None:
                gates.limit(limits)
            return film(simulation, stages, gates)
        case Finish():
            return simulation.trips()
        case _:
            raise SumoError(f"unknown request {request!r}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's business, whose end ends the pipe
    serve(Connection(int(sys.argv[1])))
