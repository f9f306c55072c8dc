"""The bids that a replica holds, and what a leader makes of them."""

from fedsched.consensus.bids import SignedBid
from fedsched.consensus.evidence import Evidence, double_bid
from fedsched.consensus.plan import Batch, Log


class Pool:
    """Genuine bids by site, the first of each; at most one per member, so peers cannot fill the memory."""

    def __init__(self) -> None:
        self._bids: dict[str, SignedBid] = {}

    def hold(self, signed: SignedBid) -> Evidence | None:
        """Keeps a site's first bid; a different second one is proof against the site."""
        held = self._bids.setdefault(signed.bid.site, signed)
        return None if held.bid == signed.bid else double_bid(held, signed)

    def waiting(self, log: Log) -> Batch:
        """The bids that are not ordered yet, by site."""
        return self.beyond(log.sites)

    def beyond(self, sites: frozenset[str]) -> Batch:
        """The bids of all other sites than `sites`, by site."""
        return tuple(self._bids[site] for site in sorted(self._bids.keys() - sites))

    def known(self, log: Log) -> tuple[str, ...]:
        """Sites whose bid is held or ordered, sorted."""
        return tuple(sorted(self._bids.keys() | log.sites))
