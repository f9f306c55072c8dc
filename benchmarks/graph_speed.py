"""Dense against sparse graph attention: CPU time of the same layers on many small graphs and on a large one.

    OMP_NUM_THREADS=1 python -m benchmarks.graph_speed

`small` is a minibatch of 1,000 decisions of agents that see 8 entities, each beside all others; `large` is one agent
with 2,000 entities of which each is beside six, as in a street or network graph. Both encoders have the same weights
(width 32, two heads, one round). A figure is the least of several calls.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import report
from fedsched.agents.config import EncoderConfig
from fedsched.agents.decisions import Decisions, gather
from fedsched.agents.encoder import make_encoder
from fedsched.envs.core import KindSpec, Tokens

ENTITY, ACTIONS, DEGREE = 11, 8, 6
SIZES = {"small": (1000, 8), "large": (1, 2000)}


def kind_of(entities: int) -> KindSpec:
    """An agent with eight actions, each of which concerns an eighth of the entities; a large one has few links."""
    number = np.arange(entities)
    links = None
    if entities > ACTIONS:
        links = np.zeros((1, entities, entities), dtype=np.bool_)
        for step in range(1, DEGREE // 2 + 1):
            links[0, number, (number + step * step) % entities] = True
            links[0, (number + step * step) % entities, number] = True
    return KindSpec(
        name="node",
        agents=("node",),
        own=tuple(f"own{i}" for i in range(16)),
        entity=tuple(f"entity{i}" for i in range(ENTITY)),
        entities=entities,
        action=("hold",),
        actions=ACTIONS,
        relation=(number % ACTIONS == np.arange(ACTIONS)[:, None])[None],
        links=links,
    )


def decisions_of(kind: KindSpec, batch: int) -> Decisions:
    """One decision of the agent in each of `batch` worlds."""
    draw = torch.Generator().manual_seed(0)
    everyone = torch.ones(batch, 1, dtype=torch.bool)
    tokens = Tokens(
        own=torch.randn(batch, 1, len(kind.own), generator=draw),
        entities=torch.randn(batch, 1, kind.entities, ENTITY, generator=draw),
        entity_mask=everyone[..., None].expand(batch, 1, kind.entities),
        actions=torch.zeros(batch, 1, ACTIONS, 1),
        action_mask=everyone[..., None].expand(batch, 1, ACTIONS),
        active=everyone,
        alive=everyone,
    )
    return gather(tokens, kind, 0, "all", None)[0]


def least_ms(run: Callable[[], object], repeats: int) -> float:
    """Shortest CPU time of a call, in milliseconds."""
    spent = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        run()
        spent.append(time.process_time() - begin)
    return 1000 * min(spent[1:])


def measure(batch: int, entities: int, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of acting and of learning, by encoder."""
    kind = kind_of(entities)
    decisions = decisions_of(kind, batch)
    segment = decisions.segment()
    dense = make_encoder(kind, EncoderConfig("gat"), len(kind.own))
    sparse = make_encoder(kind, EncoderConfig("graph"), len(kind.own))
    sparse.load_state_dict(dense.state_dict())
    found = {}
    for name, network in (("gat", dense), ("graph", sparse)):

        @torch.no_grad()
        def act(network: torch.nn.Module = network) -> torch.Tensor:
            encoded: torch.Tensor = network(decisions.own, decisions, segment)
            return encoded

        def learn(network: torch.nn.Module = network) -> None:
            torch.autograd.backward(network(decisions.own, decisions, segment).square().sum())

        found[name] = {"act_ms": least_ms(act, repeats), "learn_ms": least_ms(learn, repeats)}
    torch.testing.assert_close(dense(decisions.own, decisions, segment), sparse(decisions.own, decisions, segment))
    return found


def main() -> None:
    """Prints the table and writes JSON."""
    parser = report.parser(__doc__, "graph_speed")
    parser.add_argument("--repeats", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    figures = {size: measure(*shape, chosen.repeats) for size, shape in SIZES.items()}
    rows = [[size, name, line["act_ms"], line["learn_ms"]] for size, by in figures.items() for name, line in by.items()]
    report.table(["graphs", "encoder", "act ms", "learn ms"], rows)
    report.write(chosen.out, {"sizes": SIZES, "figures": figures})


if __name__ == "__main__":
    main()
