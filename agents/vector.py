"""The network of a kind whose actions are vectors."""

from dataclasses import replace

import torch

from fedsched.agents.config import PolicyConfig
from fedsched.agents.decisions import AgentError, Decisions
from fedsched.agents.encoder import make_encoder
from fedsched.agents.gaussian import DiagonalGaussian, GaussianHead
from fedsched.agents.messages import Understood
from fedsched.agents.network import KindNetwork, SoftRule
from fedsched.agents.segments import segment_mean
from fedsched.agents.state import StateEncoder
from fedsched.envs.core import KindSpec


class VectorNetwork(KindNetwork):
    """A Gaussian whose mean is linear in the agent's state and, where it sees entities, in their mean encoding.

    Its rows are the live entities. The state has at least one layer: without, the mean would be linear in what is seen.
    """

    def __init__(
        self,
        kind: KindSpec,
        config: PolicyConfig,
        rule: SoftRule,
        critic_features: int,
        first: int = 0,
        addressed: bool = False,
    ) -> None:
        """Builds the parts, arguments as of `ChoiceNetwork`; raises AgentError for a soft rule, which scores rows."""
        super().__init__(kind, config, first, addressed)
        if rule.weights or rule.gates:
            raise AgentError(
                f"kind {kind.name!r} has vector actions, which no soft rule can score: start it without one"
            )
        assert kind.bounds is not None
        encoder, rows = config.encoder, len(kind.entity)
        self.state = StateEncoder(self.inputs, encoder.width, max(1, encoder.layers), self.copies)
        self.encoder = None
        if rows:
            additive = replace(encoder, scoring="additive")
            self.encoder = make_encoder(kind, additive, self.state.size, self.copies, self.extra)
            self.looks = self.encoder.looks
        known = self.state.size + (encoder.hidden if rows else 0)
        self.head = GaussianHead(known, kind.bounds[0].shape[0], self.copies)
        self.add_common(kind, rows, config, critic_features)

    def forward(self, decisions: Decisions, segment: torch.Tensor, heard: Understood | None) -> DiagonalGaussian:
        """Distributions over vectors, given what the agents have heard."""
        whose = self.whose(decisions, segment)
        state = self.state(self.seen(decisions, heard), whose.decisions)
        if self.encoder is not None:
            encoded = self.encoder(state, self.with_words(decisions, heard), segment, whose)
            state = torch.cat([state, segment_mean(encoded, decisions.pointers, segment)], 1)
        distribution: DiagonalGaussian = self.head(state, whose.decisions)
        return distribution
