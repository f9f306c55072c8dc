"""A policy's networks on padded tensors, one decision a line: the twin of the ragged ones that is exported.

It has no parameters of its own: every layer is the policy's. Sizes: B decisions, N actions, E entities, K neighbours.
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from fedsched.agents.attention import DenseBody
from fedsched.agents.decisions import AgentError
from fedsched.agents.encoder import BareRows, Encoder, EntityEncoder
from fedsched.agents.gaussian import scale_of, scaled
from fedsched.agents.layers import Owners, linear
from fedsched.agents.network import SKIP_SCALE, ChoiceNetwork
from fedsched.agents.padding import Bucket
from fedsched.agents.policy import Policy
from fedsched.agents.scoring import DotScore
from fedsched.agents.sharing import in_union
from fedsched.agents.vector import VectorNetwork
from fedsched.envs.core import KindSpec

_NEVER = -1e9
ROWS = ("rows", "row_mask")
ENTITIES = ("entities", "entity_mask", "concerns")
WAYS = ("source", "target")
HEARD = ("message", "age", "known")

Named = Mapping[str, torch.Tensor]


class PaddedPolicy(nn.Module):
    """One kind of agent of a policy; `inputs` names what it reads.

    agent int64 [B], inside the kind, where every agent owns its parameters; own float32 [B, Fo]; rows float32 [B, N, F]
    and row_mask bool [B, N], of actions at least one a line, or the entities of a kind with vector actions; where it
    looks at entities: entities float32 [B, E, Fe], entity_mask bool [B, E] and concerns bool [B, N, E] (not for vector
    actions), and links bool [B, E, E] if its encoder asks and the kind has some; memory float32 [B, H]; message float32
    [B, K, M], age float32 [B, K], known bool [B, K]; where agents say something else to each neighbour, source and
    target int64 [B, E]: which of the K neighbours an entity comes from and goes to, or -1.

    Attributes:
        inputs: Names of the tensors it reads, in order.
        outputs: Names of those that it returns: probabilities [B, N], zero for illegal rows, or action [B, D] inside
            the bounds; said [B, L, M] to all, or to whom it has no address for and to each of the K neighbours;
            remembered [B, H].
    """

    def __init__(self, policy: Policy, kind: KindSpec) -> None:
        """Brings a kind into this form; raises AgentError and says why where it cannot be."""
        super().__init__()
        network, config = policy.network(kind.name), policy.config
        refuse = {
            "the graph encoder is computed by torch-geometric (train with encoder gat)": config.encoder.kind == "graph",
            "it sends more than one round of messages": config.messages is not None and config.messages.rounds > 1,
        }
        wrong = [what for what, is_so in refuse.items() if is_so]
        if wrong:
            raise AgentError(f"kind {kind.name!r} cannot be exported: {'; '.join(wrong)}")
        assert isinstance(network, ChoiceNetwork | VectorNetwork)
        self.network, self.messenger, self._addressed = network, policy.messenger, policy.addressed
        self._scale = None if kind.bounds is None else scale_of(kind.bounds, torch.device("cpu"))
        self._entity_features = len(kind.entity)
        # asked here: a traced module asks no tensor
        self._gated = isinstance(network, ChoiceNetwork) and network.gate.numel() > 0
        self._sources = None if policy.union is None else policy.union.sources(kind.name)
        self.inputs = _inputs(policy, kind)
        told = ("said",) if policy.messenger is not None else ()
        remembered = ("remembered",) if network.memory is not None else ()
        self.outputs = ("probabilities" if kind.bounds is None else "action", *told, *remembered)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The tensors that `outputs` names, from those that `inputs` names."""
        given = self._united(dict(zip(self.inputs, tensors, strict=True)))
        owners = self._owners(given, self.network.copies, 0)
        known, found, extra = given["own"], [], None
        if self.messenger is not None:
            context, said, extra = self._talk(given, owners)
            known, found = torch.cat([known, context], 1), [said]
        if self.network.memory is not None:
            remembered = self.network.memory(known, given["memory"], owners)
            known, found = torch.cat([known, remembered], 1), [*found, remembered]
        state = self.network.state(known, owners)
        if isinstance(self.network, ChoiceNetwork):
            return self._probabilities(self.network, state, given, extra, owners), *found
        return self._vector(self.network, state, given, extra, owners), *found

    def _talk(self, given: Named, owners: Owners | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What agents understand on the whole [B, M], what they say [B, L, M], and what rows hear besides [B, N, X]."""
        messenger = self.messenger
        assert messenger is not None
        speaks = self._owners(given, messenger.copies, self.network.first)
        told = self._summary(given, owners)
        knows = torch.cat([told, torch.zeros_like(told)], 2)
        mean = messenger.limit * torch.tanh(messenger.speak(knows, speaks) / messenger.limit)
        heard = torch.cat([given["message"], given["age"][:, :, None]], 2)
        context = messenger.receive(messenger.query(told[:, 0], speaks), heard, given["known"], speaks)
        words = torch.cat([heard, torch.ones_like(heard[:, :, :1])], 2) * given["known"][:, :, None]
        return context, messenger.utter(mean, None, None), self._words(words, given, owners)

    def _summary(self, given: Named, owners: Owners | None) -> torch.Tensor:
        """What an agent could tell each address, [B, L, M]."""
        summary, tells = self.network.summary, self.network.tells
        assert summary is not None
        parts = [given["own"], *([_mean(given["rows"], given["row_mask"])] if "rows" in given else [])]
        general = summary(torch.cat([*parts, *([given["memory"]] if "memory" in given else [])], 1), owners)[:, None]
        neighbours = given["message"].shape[1]
        if tells is None:
            return torch.tanh(general.expand(-1, neighbours + 1, -1) if self._addressed else general)
        entities, live = self._seen(given)
        encoded = F.relu(tells.entity(entities, owners)) * live[:, :, None]
        goes, comes = (
            _columns(given[name], given["message"]).transpose(1, 2) @ encoded for name in ("target", "source")
        )
        special = tells.goes(goes, owners) + tells.comes(comes, owners)
        return torch.tanh(torch.cat([general, general + special], 1))

    def _words(self, words: torch.Tensor, given: Named, owners: Owners | None) -> torch.Tensor | None:
        """What was said of the entities that each row concerns, by who hands them on; None where nobody does."""
        if self.network.hears is None:
            return None
        entities, live = self._seen(given)
        by_way = [_columns(given[name], given["message"]) @ words for name in WAYS]
        encoded = F.relu(self.network.hears(torch.cat([entities, *by_way], 2), owners)) * live[:, :, None]
        return given["concerns"].to(encoded.dtype) @ encoded if self._scale is None else encoded

    def _seen(self, given: Named) -> tuple[torch.Tensor, torch.Tensor]:
        """Entities and which slots hold one; the rows of vector actions are entities."""
        if self._scale is None:
            return given["entities"], given["entity_mask"]
        return given["rows"], given["row_mask"]

    def _probabilities(
        self,
        network: ChoiceNetwork,
        state: torch.Tensor,
        given: Named,
        extra: torch.Tensor | None,
        owners: Owners | None,
    ) -> torch.Tensor:
        rows, legal = given["rows"], given["row_mask"]
        encoded = self._encode(network.encoder, state, given, extra, owners)
        skipped = linear(rows, network.skip * SKIP_SCALE, None, owners)
        scores = _scores(network, state, encoded, owners) + skipped[:, :, 0]
        if self._gated:
            gates = given["own"].index_select(1, network.gate)
            scores = scores + (skipped[:, :, 1:] * gates[:, None]).sum(2)
        return scores.masked_fill(~legal, _NEVER).softmax(1) * legal

    def _vector(
        self,
        network: VectorNetwork,
        state: torch.Tensor,
        given: Named,
        extra: torch.Tensor | None,
        owners: Owners | None,
    ) -> torch.Tensor:
        assert self._scale is not None
        if network.encoder is not None:
            encoded = self._encode(network.encoder, state, given, extra, owners)
            state = torch.cat([state, _mean(encoded, given["row_mask"])], 1)
        return scaled(network.head.mean(state, owners), self._scale)

    def _encode(
        self,
        encoder: Encoder,
        state: torch.Tensor,
        given: Named,
        extra: torch.Tensor | None,
        owners: Owners | None,
    ) -> torch.Tensor:
        rows = given["rows"] if extra is None else torch.cat([given["rows"], extra], 2)
        if isinstance(encoder, BareRows):
            return rows
        row, whole = encoder.row(rows, owners), encoder.whole(state, owners)
        if isinstance(encoder, EntityEncoder):
            concerned, whole = self._concerned(encoder, state, whole, given, owners)
            row = row + concerned
        return F.relu(encoder.mix(F.relu(row + whole[:, None]), owners))

    def _concerned(
        self, encoder: EntityEncoder, state: torch.Tensor, whole: torch.Tensor, given: Named, owners: Owners | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What became of the entities that each row concerns, [B, N, width], and of the agent, [B, width]."""
        body = encoder.body
        assert isinstance(body, DenseBody)
        entities, live = self._seen(given)
        look = given["links"] & live[:, None, :] if "links" in given else live[:, None, :]
        nobody = torch.zeros(0, dtype=torch.int64)
        tokens = F.relu(encoder.entity(entities, owners) + encoder.sees(state, owners)[:, None])
        tokens, whole = body.dense(tokens, whole, Bucket(nobody, nobody, nobody, live, look, owners))
        concerned = encoder.concerned(tokens, owners)
        if self._scale is None:
            concerned = (given["concerns"] & live[:, None, :]).to(tokens.dtype) @ concerned
        return concerned, whole

    def _united(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Features as the network knows them, where it is that of all kinds."""
        if self._sources is None:
            return given
        own, entity, action = self._sources
        given["own"] = in_union(given["own"], own)
        if "entities" in given:
            given["entities"] = in_union(given["entities"], entity)
        if "rows" in given:
            entities = in_union(given["rows"][:, :, : self._entity_features], entity)
            actions = in_union(given["rows"][:, :, self._entity_features :], action)
            given["rows"] = torch.cat([entities, actions], 2) if self._scale is None else entities
        return given

    def _owners(self, given: Named, copies: int, first: int) -> Owners | None:
        """Whose parameters each line uses: every line is a tile of its own."""
        if not copies:
            return None
        agent = given["agent"] + first
        line = torch.arange(agent.shape[0])
        return Owners(agent, copies, line, line, agent, 1)


def _inputs(policy: Policy, kind: KindSpec) -> tuple[str, ...]:
    network, chooses = policy.network(kind.name), kind.bounds is None
    parts = {
        ("agent",): policy.config.sharing == "agent",
        ("own",): True,
        # where all kinds share a network, its rows have features that a kind may lack
        ROWS: chooses or bool(kind.entity) or policy.union is not None,
        ENTITIES: network.looks != "no" and chooses,
        ("links",): network.looks == "all" and kind.links is not None,
        ("memory",): network.memory is not None,
        HEARD: policy.messenger is not None,
        WAYS: network.tells is not None,
    }
    return tuple(name for names, wanted in parts.items() if wanted for name in names)


def _columns(column: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """Columns [B, E] of the neighbours in `heard` [B, K, M] as zeros and ones [B, E, K]; -1 is none of them."""
    numbers = torch.ones_like(heard[0, :, 0]).cumsum(0) - 1
    return (column[:, :, None] == numbers).to(heard.dtype)


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Means [B, F] of the lines [B, N, F] in the mask, zero without any."""
    weight = mask[:, :, None].to(values.dtype)
    return (values * weight).sum(1) / weight.sum(1).clamp(min=1)


def _scores(network: ChoiceNetwork, state: torch.Tensor, encoded: torch.Tensor, owners: Owners | None) -> torch.Tensor:
    score = network.score
    if not isinstance(score, DotScore):
        return linear(encoded, score.weight, None, owners).squeeze(2)
    query = state if score.query is None else score.query(state, owners)
    return (linear(query, score.key.weight.transpose(-1, -2), None, owners)[:, None] * encoded).sum(2)
