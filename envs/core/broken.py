"""What is raised where a law is broken; without torch, so that processes that check environments start fast."""


class CheckError(AssertionError):
    """A broken law.

    Attributes:
        law: Its name. One moment: `shape`, `dtype`, `finite`, `padding`, `legal action`, `idle`, `active`, `clock`,
            `no return`. Episodes: `determinism`, `reset`, `batch`, `where`, `snapshot`, `illegal action`, `ended`,
            `processes`.
            Environments: see `fedsched.envs.core.env_check.check_env`.
    """

    def __init__(self, law: str, detail: str) -> None:
        super().__init__(f"{law}: {detail}")
        self.law = law


def require(condition: bool, law: str, detail: str) -> None:
    """Raises CheckError unless the condition holds."""
    if not condition:
        raise CheckError(law, detail)
