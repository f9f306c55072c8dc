"""The server's half of a secure round: four questions to the sites, and the weighted mean out of the answers.

The server learns the sum of the weighted updates and the sum of the weights of the sites whose vectors arrived, and
who took part. A site that fails before its vector arrives is not in the mean; one that fails afterwards is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from fedsched.federation import secure, shamir
from fedsched.federation.messages import Exchange, pack_request, read_blob, read_blobs, unpack_metrics
from fedsched.federation.participant import FederationError, Parameters, Scalar
from fedsched.federation.secure_client import KEYS, SHARES, UNMASK, VECTOR
from fedsched.federation.strategy import Aggregate


@dataclass(frozen=True)
class _Keys:
    box: bytes
    mask: bytes


@dataclass(frozen=True)
class _Shares:
    """One member's sealed boxes, one a member and in their order, and the commitment to its own mask's seed."""

    sealed: list[bytes]
    commitment: bytes


@dataclass(frozen=True)
class _Masked:
    vector: secure.Vector
    metrics: dict[str, float]


class SecureRound:
    """One secure round over an exchange.

    Args:
        exchange: the round's traffic.
        number: the round's number, which sites check in every request.
        needed: sites that must answer every stage, and shares that rebuild a secret.
    """

    def __init__(self, exchange: Exchange, number: int, needed: int) -> None:
        self._exchange = exchange
        self._number = number
        self._needed = needed
        self._partition = {site: k for k, site in enumerate(exchange.sites)}

    def run(self, parameters: Parameters, config: Mapping[str, Scalar]) -> Aggregate:
        """Ask the sites for masked updates and unmask their sum.

        Raises:
            FederationError: too few sites answered a stage, or shares do not rebuild the secret they belong to.
        """
        keys = self._collect_keys()
        shares = self._collect_shares(keys)
        masked = self._collect_vectors(keys, shares, parameters, config)
        answers = self._collect_unmasking(shares, masked)
        late = {site: self._exchange.failures.pop(site) for site in masked if site not in answers}
        total = self._unmask(keys, shares, masked, answers)
        mean = secure.unflatten(secure.weighted_mean(total), parameters)
        return Aggregate(mean, tuple(masked), {site: m.metrics for site, m in masked.items() if m.metrics}, late)

    def _request(self, **fields: int | list[int] | list[bytes]) -> RecordDict:
        return RecordDict({"secure": ConfigRecord({"round": self._number, **fields})})

    def _partitions(self, sites: Mapping[str, object]) -> list[int]:
        return [self._partition[site] for site in sites]

    def _collect_keys(self) -> dict[str, _Keys]:
        contents = {site: self._request() for site in self._exchange.connected}
        return self._exchange.ask(
            "keys", f"train.{KEYS}", contents, lambda c: _Keys(read_blob(c, "box"), read_blob(c, "mask")), self._needed
        )

    def _collect_shares(self, keys: dict[str, _Keys]) -> dict[str, _Shares]:
        def read(content: RecordDict) -> _Shares:
            sealed = read_blobs(content, "sealed")
            if len(sealed) != len(keys):
                raise ValueError(f"{len(sealed)} boxes for {len(keys)} members")
            return _Shares(sealed, read_blob(content, "commitment"))

        request = self._request(
            threshold=self._needed,
            members=self._partitions(keys),
            boxes=[k.box for k in keys.values()],
            masks=[k.mask for k in keys.values()],
        )
        return self._exchange.ask("shares", f"train.{SHARES}", dict.fromkeys(keys, request), read, self._needed)

    def _collect_vectors(
        self, keys: dict[str, _Keys], shares: dict[str, _Shares], parameters: Parameters, config: Mapping[str, Scalar]
    ) -> dict[str, _Masked]:
        size = sum(value.size for value in parameters.values()) + 1

        def read(content: RecordDict) -> _Masked:
            vector = content.array_records["masked"]["vector"].numpy()
            if vector.dtype != np.uint64 or vector.shape != (size,):
                raise ValueError(f"the masked vector is {vector.dtype}{list(vector.shape)}, not uint64[{size}]")
            return _Masked(vector, unpack_metrics(content))

        common = pack_request(parameters, config)
        contents = {}
        for place, site in enumerate(keys):
            if site in shares:
                sealed = [sender.sealed[place] for sender in shares.values()]
                own = self._request(holders=self._partitions(shares), sealed=sealed)
                contents[site] = RecordDict({**common, **own})
        return self._exchange.ask("masked updates", f"train.{VECTOR}", contents, read, self._needed)

    def _collect_unmasking(self, shares: dict[str, _Shares], masked: dict[str, _Masked]) -> dict[str, list[bytes]]:
        dead = {site: None for site in shares if site not in masked}

        def read(content: RecordDict) -> list[bytes]:
            found = read_blobs(content, "shares")
            if len(found) != len(shares):
                raise ValueError(f"{len(found)} shares for {len(shares)} holders")
            return found

        request = self._request(live=self._partitions(masked), dead=self._partitions(dead))
        return self._exchange.ask("unmasking", f"train.{UNMASK}", dict.fromkeys(masked, request), read, self._needed)

    def _unmask(
        self,
        keys: dict[str, _Keys],
        shares: dict[str, _Shares],
        masked: dict[str, _Masked],
        answers: dict[str, list[bytes]],
    ) -> secure.Vector:
        """Rebuild what is needed, check it against what was announced, and take it off the sum."""
        seeds: list[bytes] = []
        dead: dict[int, bytes] = {}
        helpers = list(answers)[: self._needed]
        for place, site in enumerate(shares):
            own = {self._partition[helper] + 1: answers[helper][place] for helper in helpers}
            try:
                secret = shamir.combine(own)
            except ValueError as error:
                raise self._wrong_shares(site, helpers) from error
            if site in masked:
                genuine = secure.commitment(secret) == shares[site].commitment
                seeds.append(secret)
            else:
                genuine = secure.public_key(secret) == keys[site].mask
                dead[self._partition[site]] = secret
            if not genuine:
                raise self._wrong_shares(site, helpers)
        live = {self._partition[site]: keys[site].mask for site in masked}
        return secure.unmask([m.vector for m in masked.values()], seeds, dead, live)

    def _wrong_shares(self, site: str, helpers: list[str]) -> FederationError:
        problem = f"round {self._number}: shares of {', '.join(helpers)} do not rebuild the secret of {site}"
        failures = {**self._exchange.failures, site: "its secret could not be rebuilt: a share was altered"}
        return FederationError(problem, "unmasking", len(helpers), self._needed, failures)
