"""A recorded period as a page to look at."""

from pathlib import Path

from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import Drawing, Scene
from fedsched.sim.errors import UserError
from fedsched.sim.folder import read_run


def write_replay(folder: Path, site: str | None, out: Path | None) -> Path:
    """Writes the replay of a site as one page that needs nothing else.

    Args:
        folder: A run folder.
        site: Whose; by default the first one's.
        out: The page; by default `replay-SITE.html` in the run folder.

    Returns:
        The page.

    Raises:
        UserError: No replay was recorded, no such site, or a file that cannot be written.
    """
    told = read_run(folder)
    name = site or next(iter(told.scenario.sites))
    if name not in told.scenario.sites:
        raise UserError(f"{folder}: has no site {name!r}; its sites are {', '.join(told.scenario.sites)}")
    rows = [row for row in told.frames().to_pylist() if row["site"] == name]
    if not rows:
        raise UserError(f"{folder}: has no replay of {name}; run it with --set 'evaluation.replay=2 s'")
    domain = domain_of(told.scenario)
    assert isinstance(domain, Drawing), "only such domains record scenes"
    page = domain.page([Scene(row["time"], row["kind"], row["data"]) for row in rows])
    path = out or folder / f"replay-{name}.html"
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return path
