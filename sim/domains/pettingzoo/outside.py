"""What is installed beside fedsched for foreign environments: what the user brings, so nothing is looked for."""


def examine() -> list[tuple[str, str, str]]:
    """Nothing."""
    return []
