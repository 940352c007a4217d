"""Overbook: how far can GPUs, KV memory and power be oversubscribed before the latency promises of an LLM service break?

>>> import overbook
>>> run = overbook.run("scenarios/examples/first.yaml", set={"fleet.replicas": 3})
>>> run.metric("ttft_p99"), run.keeps_targets

A scenario is a dict, the path of a YAML file, or YAML text. Results are figures and tables that polars, pandas and pyarrow take as they
are (Arrow's C stream). Schedulers, routers and eviction policies may be written in Python: see `Scheduler`, `Router` and
`EvictionPolicy`. docs/python.md has the tour.
"""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Mapping, Optional, Protocol, Sequence, Union, runtime_checkable

from ._overbook import (
    Arriving,
    BlockView,
    Fleet,
    Head,
    Horizon,
    InfeasiblePlan,
    Limits,
    Place,
    Plan,
    ReplicaView,
    Request,
    Run,
    RunError,
    ScenarioError,
    Step,
    Study,
    Table,
    __version__,
    schema,
)
from . import _overbook

__all__ = [
    "Arriving",
    "BlockView",
    "EvictionPolicy",
    "Fleet",
    "Head",
    "Horizon",
    "InfeasiblePlan",
    "Limits",
    "Place",
    "Plan",
    "ReplicaView",
    "Request",
    "Router",
    "Run",
    "RunError",
    "Scenario",
    "ScenarioError",
    "Scheduler",
    "Step",
    "Study",
    "Table",
    "__version__",
    "plan",
    "run",
    "schema",
    "sweep",
]

Scenario = Union[Mapping[str, Any], str, "os.PathLike[str]"]
"""A dict as the YAML would be; the path of a YAML file; or, as a `str` with a line break, YAML text."""


@runtime_checkable
class Scheduler(Protocol):
    """Plans the steps of one replica."""

    def plan(self, step: Step) -> Optional[Horizon]:
        """Builds the next step of a lane. Without a `Horizon` every step is planned anew: always right, never fast."""
        ...


@runtime_checkable
class Router(Protocol):
    """Chooses a replica for each arrival."""

    def route(self, request: Arriving, fleet: Fleet) -> int:
        """Which of the replicas in view takes the request: an index into `fleet`, from 0."""
        ...


@runtime_checkable
class EvictionPolicy(Protocol):
    """Says which cached block of one replica goes when room is needed.

    A block is pinned while a request holds it, and evictable otherwise. `missed(view)` may be there too: a content was not found and is
    to come in, before victims are asked for.
    """

    def admit(self, block: int, view: BlockView) -> None:
        """A block came in; a request holds it."""
        ...

    def hit(self, block: int, view: BlockView) -> None:
        """A request uses a block that is there, whether others hold it or nobody does."""
        ...

    def evictable(self, block: int) -> None:
        """Nobody holds a block any more."""
        ...

    def pinned(self, block: int) -> None:
        """Somebody holds a block that nobody held."""
        ...

    def victim(self) -> Optional[int]:
        """Chooses an evictable block and forgets it; None if there is none."""
        ...

    def gone(self, block: int) -> None:
        """A block left the cache for another reason; it may have been pinned or evictable."""
        ...


class _Asked:
    """What the extension module reads: a scenario with changes, and policies."""

    def __init__(
        self,
        scenario: Scenario,
        set: Optional[Mapping[str, Any]],
        seed: Optional[int],
        vary: Optional[Mapping[str, Any]] = None,
        scheduler: Optional[Callable[[Place], Scheduler]] = None,
        router: Optional[Callable[[int], Router]] = None,
        eviction: Optional[Callable[[Place], EvictionPolicy]] = None,
    ) -> None:
        self.path: Optional[str] = None
        self.text: Optional[str] = None
        self.json: Optional[str] = None
        if isinstance(scenario, Mapping):
            self.json = _json("the scenario", scenario)
        elif isinstance(scenario, str) and "\n" in scenario:
            self.text = scenario
        elif isinstance(scenario, (str, os.PathLike)):
            self.path = os.fspath(scenario)
        else:
            raise TypeError(f"a scenario is a dict, a path or YAML text, not {type(scenario).__name__}")
        self.changes = [(path, _json(path, value)) for path, value in (set or {}).items()]
        if seed is not None:
            self.changes.append(("seed", _json("seed", seed)))
        self.axes = [(path, _json(path, values)) for path, values in (vary or {}).items()]
        self.scheduler = _named(scheduler)
        self.router = _named(router)
        self.eviction = _named(eviction)


def _json(path: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{path}: {error}") from None


def _plain(value: Any) -> Any:
    """Paths, mappings and numbers of other libraries, as JSON has them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a {type(value).__name__} has no form in a scenario")


def _named(make: Any) -> Optional[tuple[str, Any]]:
    """A policy, and what reports call it: its attribute `name`, else that of its class or function."""
    if make is None:
        return None
    if not callable(make):
        raise TypeError(f"a policy is a class or function that makes one, not {type(make).__name__}: every replica gets its own")
    name = getattr(make, "name", None) or getattr(make, "__name__", None) or type(make).__name__
    return str(name), make


def run(
    scenario: Scenario,
    *,
    set: Optional[Mapping[str, Any]] = None,
    seed: Optional[int] = None,
    scheduler: Optional[Callable[[Place], Scheduler]] = None,
    router: Optional[Callable[[int], Router]] = None,
    eviction: Optional[Callable[[Place], EvictionPolicy]] = None,
    rows: bool = True,
    audit: bool = False,
    step_by_step: bool = False,
) -> Run:
    """Simulates a scenario without a sweep.

    `set` changes values by dotted paths, as `--set` does: `{"fleet.replicas": 3}`. Relative paths in a file start from its folder, all
    others from the working directory.

    `scheduler` and `eviction` are called with the `Place` of each replica, `router` with the scenario's seed; they make the policies. The
    scenario's own scheduler then says no more than the limits. What a policy raises ends the run and is raised here.

    `rows`: keep all rows in memory, about 130 bytes a request and 100 a segment of steps. `audit` checks the laws of the simulation at
    every event; `step_by_step` simulates every step on its own: both are slow, and change no figure.

    Raises `ScenarioError` (a `ValueError`) where the input is not valid, with the command line's text; `InfeasiblePlan` or `RunError`
    where the run stops on the way; `KeyboardInterrupt` after Ctrl-C.
    """
    asked = _Asked(scenario, set, seed, None, scheduler, router, eviction)
    return _overbook.run(asked, rows=rows, audit=audit, step_by_step=step_by_step)


def sweep(
    scenario: Scenario,
    *,
    vary: Optional[Mapping[str, Union[Sequence[Any], Mapping[str, Any]]]] = None,
    set: Optional[Mapping[str, Any]] = None,
    seed: Optional[int] = None,
    scheduler: Optional[Callable[[Place], Scheduler]] = None,
    router: Optional[Callable[[int], Router]] = None,
    eviction: Optional[Callable[[Place], EvictionPolicy]] = None,
    jobs: Optional[int] = None,
    audit: bool = False,
    step_by_step: bool = False,
    progress: Optional[Callable[[int, int], None]] = None,
) -> Study:
    """Runs all points of a scenario's `sweep:`, and of the axes that `vary` adds: `{"fleet.replicas": [2, 3, 4]}`.

    `jobs`: points that run at once, by default one per processor. `progress` hears how many points have ended, and of how many. The rest
    is as in `run`. If a point cannot be run, the others are run nevertheless: `finished` of the error has them.
    """
    asked = _Asked(scenario, set, seed, vary, scheduler, router, eviction)
    return _overbook.sweep(asked, jobs=jobs, audit=audit, step_by_step=step_by_step, progress=progress)


def plan(
    scenario: Scenario,
    *,
    set: Optional[Mapping[str, Any]] = None,
    seed: Optional[int] = None,
    jobs: Optional[int] = None,
    news: Optional[Callable[[str], None]] = None,
) -> Plan:
    """The cheapest fleet that keeps the promises of a scenario; its `plan:` says what may be chosen.

    What the command line has flags for is set: `{"plan.gpus": ["h100", "h200"], "plan.prices.h100": "2.2/gpu-h"}`. `news` hears how it
    goes, a line at a time. The rest is as in `run`.
    """
    return _overbook.plan(_Asked(scenario, set, seed), jobs=jobs, news=news)
