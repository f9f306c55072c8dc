"""What can go wrong when sites agree; every message says what, where and what to do."""


class ConsensusError(Exception):
    """Agreement among sites cannot start, go on or be believed."""


class MembershipError(ConsensusError, ValueError):
    """A list of sites that cannot form a federation."""


class BidError(ConsensusError, ValueError):
    """A lot, bid or link that breaks its own rules."""


class PeerError(ConsensusError):
    """A frame from a peer that is malformed, unsigned or signed by somebody else; the host drops it and goes on."""


class CertificateError(ConsensusError):
    """A plan, certificate or record that a third party must not believe."""


class UnsettledError(ConsensusError):
    """A settlement that did not finish within its bounded simulated time."""
