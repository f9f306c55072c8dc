"""Signal control on RESCO's maps: trained in our world, judged in SUMO.

    python -m benchmarks.resco train cologne1 grid4x4 --seeds 0-2     # checkpoints, by benchmarks/resco/<map>.yaml
    python -m benchmarks.resco train universal                        # one policy, by five of the maps
    python -m benchmarks.resco table --seeds 10 11 12                 # RESCO's protocol, from the checkpoints alone
    python -m benchmarks.resco ranks cologne1 grid4x4                 # do SUMO and our world rank actors alike?

Maps come from FEDSCHED_MAPS or the extra `maps`; `table` and `ranks` need SUMO 1.28 (extra `sumo`). All may be stopped
and started again: what has been trained or played stays. Policies are final ones, never the best episode; the drivers'
seeds of training are 2^30 and more, so those named here are fresh. Delay is RESCO's: time loss and departure delay of
all trips that were due, those that never got in with their whole wait.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.report import NEW
from benchmarks.resco.hour import UNIVERSAL
from benchmarks.resco.page import resco_table
from benchmarks.resco.published import PUBLISHED
from benchmarks.resco.ranks import ranks
from benchmarks.resco.training import train_all
from fedsched.envs.core import WorldError
from fedsched.sim.errors import UserError


def main() -> None:
    """Runs the verb."""
    options = _options()
    chosen = options.parse_args()
    known = {*PUBLISHED, UNIVERSAL} if chosen.verb == "train" else {*PUBLISHED}
    if unknown := sorted(set(chosen.maps) - known):
        options.error(f"no map {unknown[0]!r}; there are {', '.join(PUBLISHED)}")
    torch.set_num_threads(1)
    maps, seeds = chosen.maps or list(PUBLISHED), [seed for part in chosen.seeds for seed in part]
    try:
        if chosen.verb == "train":
            train_all(maps, seeds)
        else:
            {"table": resco_table, "ranks": ranks}[chosen.verb](maps, seeds, chosen.out, chosen.rows)
    except (UserError, WorldError) as error:
        options.error(str(error))


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m benchmarks.resco", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = made.add_subparsers(dest="verb", required=True)
    for verb, told, seeds in (
        ("train", "trains and keeps a checkpoint for each map and seed", "0"),
        ("table", "RESCO's protocol in SUMO: policies and controllers", "10-12"),
        ("ranks", "rank correlation of our world and SUMO", "20-21"),
    ):
        one = verbs.add_parser(verb, help=told)
        one.add_argument("maps", nargs="*", metavar="MAP", help="all by default")
        one.add_argument("--seeds", nargs="+", type=_seeds, default=[_seeds(seeds)], help=f"{seeds} by default")
        if verb != "train":
            one.add_argument("--rows", type=int, default=1, help="SUMO processes at a time, %(default)s by default")
            name = "resco" if verb == "table" else "resco_ranks"
            one.add_argument("--out", type=Path, default=NEW / f"{name}.json", help="where the JSON goes, %(default)s")
    return made


def _seeds(text: str) -> list[int]:
    """`3`, or `0-2` for 0, 1 and 2."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


if __name__ == "__main__":
    main()
