"""Where sites live: in this process, or as Ray actors with a CPU and GPU share each. Results are the same."""

import logging
import math
import os
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from fedsched.sim.errors import UserError
from fedsched.sim.provenance import silence
from fedsched.sim.scenario import Workers as Settings

T = TypeVar("T")
Result = Any
"""What a method returns; its type is that of the method."""

_START_ATTEMPTS = 3
_PLACEMENT_S = 180.0


class WorkersError(UserError):
    """Workers that cannot be started as the scenario asks."""


class SiteError(RuntimeError):
    """A call that failed at a site; the original error is its cause.

    Attributes:
        site: Name of the site.
    """

    def __init__(self, site: str, method: str, error: BaseException) -> None:
        self.site = site
        super().__init__(f"site {site}, {method}: {type(error).__name__}: {error}")


class Workers(ABC, Generic[T]):
    """One object per site, each with a state of its own; a context manager that ends what it started.

    Attributes:
        sites: Their names, in the order of the factories.
    """

    sites: tuple[str, ...]

    def call(self, site: str, method: str, *arguments: object) -> Result:
        """Calls a method of one site.

        Raises:
            SiteError: It raised. An error that the user can mend comes through as it is.
        """
        return self.map(method, {site: arguments})[site]

    @abstractmethod
    def map(self, method: str, arguments: Mapping[str, tuple[object, ...]]) -> dict[str, Result]:
        """Calls a method of several sites, in parallel where each has a process of its own.

        Args:
            method: Its name.
            arguments: Arguments by site; sites that are not listed are not called. A site may not write into them:
                on Ray they are read-only copies.

        Returns:
            Results by site, in the order of `arguments`.

        Raises:
            SiteError: It raised at a site; all have been called then, and of several errors the first in order counts.
        """

    def proxy(self, site: str) -> T:
        """The site as if it were here: a call of any of its methods goes to where it lives."""
        return cast("T", _Proxy(self, site))

    @abstractmethod
    def close(self) -> None:
        """Ends the sites, and Ray if it was started for them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Proxy:
    def __init__(self, workers: Workers[Any], site: str) -> None:
        self._workers, self._site = workers, site

    def __getattr__(self, method: str) -> Callable[..., Result]:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *arguments: self._workers.call(self._site, method, *arguments)


def start(factories: Mapping[str, Callable[[], T]], settings: Settings) -> Workers[T]:
    """Makes every site where the scenario wants it.

    Args:
        factories: What makes a site, by name; called where the site will live.
        settings: The scenario's `workers`.

    Raises:
        WorkersError: There is no such cluster, it is too small, or Ray does not start.
        SiteError: A site could not be made.
    """
    _limit_threads(settings.cpus_per_site)
    if settings.chosen == "ray":
        return RayWorkers(factories, settings)
    return LocalWorkers(factories, settings)


def _limit_threads(cpus: float) -> None:
    import torch

    torch.set_num_threads(max(1, int(cpus)))


def _raise(site: str, method: str, error: BaseException, remote: BaseException | None = None) -> None:
    if isinstance(error, UserError):
        raise error
    raise SiteError(site, method, error) from (remote or error)


class LocalWorkers(Workers[T]):
    """Sites as objects of this process. One of them works at a time, whichever thread asks."""

    def __init__(self, factories: Mapping[str, Callable[[], T]], settings: Settings) -> None:
        _limit_threads(settings.cpus_per_site)
        self.sites = tuple(factories)
        self._lock = threading.RLock()
        self._objects: dict[str, T] = {}
        for site, factory in factories.items():
            try:
                self._objects[site] = factory()
            except Exception as error:
                _raise(site, "start", error)

    def map(self, method: str, arguments: Mapping[str, tuple[object, ...]]) -> dict[str, Result]:
        """Calls one site after the other."""
        results, errors = {}, {}
        for site, values in arguments.items():
            with self._lock:
                try:
                    results[site] = getattr(self._objects[site], method)(*values)
                except Exception as error:
                    errors[site] = error
        for site, raised in errors.items():
            _raise(site, method, raised)
        return results

    def close(self) -> None:
        """Lets the sites go."""
        self._objects.clear()


class _Host:
    """The actor that holds a site."""

    def __init__(self, cpus: float) -> None:
        silence()
        _limit_threads(cpus)
        self._object: object = None

    def make(self, factory: Callable[[], object]) -> None:
        # not in __init__: an error there would reach the driver as text only
        self._object = factory()

    def call(self, method: str, arguments: tuple[object, ...]) -> Result:
        return getattr(self._object, method)(*arguments)


class RayWorkers(Workers[T]):
    """Sites as Ray actors, on a cluster of their own or on one that runs already."""

    def __init__(self, factories: Mapping[str, Callable[[], T]], settings: Settings) -> None:
        self.sites = tuple(factories)
        self._hosts: dict[str, Any] = {}
        self._started = _join_ray(len(factories), settings)
        try:
            self._place(factories, settings)
        except BaseException:
            self.close()
            raise

    def _place(self, factories: Mapping[str, Callable[[], T]], settings: Settings) -> None:
        import ray

        _check_resources(len(factories), settings, cast("Any", ray).cluster_resources())
        actor = ray.remote(num_cpus=settings.cpus_per_site, num_gpus=settings.gpus_per_site)(_Host)
        self._hosts = {site: actor.remote(settings.cpus_per_site) for site in factories}
        made = {site: self._hosts[site].make.remote(factory) for site, factory in factories.items()}
        _, waiting = ray.wait(list(made.values()), num_returns=len(made), timeout=_PLACEMENT_S)
        if waiting:
            late = ", ".join(site for site, reference in made.items() if reference in waiting)
            raise WorkersError(
                f"workers: no room for {late} on the Ray cluster within {_PLACEMENT_S:.0f} s; free resources on it, "
                "or lower workers.cpus_per_site and workers.gpus_per_site"
            )
        self._collect("start", made)

    def map(self, method: str, arguments: Mapping[str, tuple[object, ...]]) -> dict[str, Result]:
        """Calls all sites at once."""
        return self._collect(
            method, {site: self._hosts[site].call.remote(method, values) for site, values in arguments.items()}
        )

    def _collect(self, method: str, references: Mapping[str, Any]) -> dict[str, Result]:
        import ray

        results, errors = {}, {}
        for site, reference in references.items():
            try:
                results[site] = ray.get(reference)
            except ray.exceptions.RayError as error:
                errors[site] = error
        for site, raised in errors.items():
            _raise(site, method, getattr(raised, "cause", None) or raised, remote=raised)
        return results

    def close(self) -> None:
        """Ends the actors, and Ray if it was started here."""
        import ray

        for host in self._hosts.values():
            ray.kill(host)
        self._hosts = {}
        if self._started:
            ray.shutdown()
            self._started = False


def _join_ray(sites: int, settings: Settings) -> bool:
    """Makes sure that this process is in a Ray cluster; returns whether it was brought there."""
    silence()
    # Ray announces a change of this default in a warning at every start
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if settings.address:
        _bring_token()  # before the import, which reads the environment
    import ray

    if ray.is_initialized():
        return False
    # logical CPUs: four sites fit on two cores, they only share them
    cpus = max(os.cpu_count() or 1, math.ceil(sites * settings.cpus_per_site))
    place = {"address": settings.address} if settings.address else {"address": "local", "num_cpus": cpus}
    attempts = 1 if settings.address else _START_ATTEMPTS
    for attempt in range(attempts):
        try:
            with warnings.catch_warnings():
                # the client warns before it raises; the error says it better
                warnings.filterwarnings("ignore", "Ray Client connection timed out", UserWarning)
                ray.init(**place, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        except (RuntimeError, OSError, TimeoutError, ray.exceptions.RayError) as error:
            ray.shutdown()
            if attempt == attempts - 1:
                raise WorkersError(_start_message(settings, error)) from error
            time.sleep(2.0**attempt)
        else:
            return True
    return False


def _bring_token() -> None:
    """Lets Ray show the cluster's token where there is one: clusters of Ray 2.60 ask for it, drivers hide it."""
    known = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if known or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _start_message(settings: Settings, error: BaseException) -> str:
    if settings.address:
        return (
            f"workers.address: no Ray cluster answers at {settings.address} ({error}); check it with `ray status`, and "
            "that RAY_AUTH_TOKEN_PATH names the file with its token"
        )
    return f"workers: Ray does not start after {_START_ATTEMPTS} attempts ({error}); use `--workers local`"


def _check_resources(sites: int, settings: Settings, resources: Mapping[str, float]) -> None:
    """Refuses what could never be placed, which Ray would wait for without end."""
    for name, key, share in (
        ("CPU", "cpus_per_site", settings.cpus_per_site),
        ("GPU", "gpus_per_site", settings.gpus_per_site),
    ):
        needed, there = sites * share, resources.get(name, 0.0)
        if needed > there + 1e-9:
            raise WorkersError(
                f"workers.{key}: {sites} sites need {needed:g} {name}s, the Ray cluster has {there:g}; "
                f"use at most {there / sites:g}"
            )
