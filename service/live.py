"""Live: the versions that are served right now. Watches the registry; what is new is loaded beside the old, then takes over.

A request takes one `Served` and keeps it: it sees one version from its beginning to its end, and the old ones go with the last
request that holds them.
"""

import gc
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recsys_ae.errors import ArtifactError, RegistryError
from recsys_ae.ids import Id
from recsys_ae.registry import CURRENT, TRAFFIC, VERSION, Registry
from recsys_ae.traffic import Traffic
from service.engine import Engine
from service.observing import LifeMetrics

log = logging.getLogger("service")

TRY_AGAIN = 15
"""Looks at the registry until a version that was refused is tried again, as long as nothing has changed."""

Load = Callable[[str], Engine]
Marks = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class Served:
    """The versions of one moment. `main` answers whoever is in no arm, and for an arm whose version cannot be served."""

    main: Engine | None = None
    engines: Mapping[str, Engine] = field(default_factory=dict)
    test: Traffic | None = None

    def engine_for(self, user: Id | None) -> tuple[Engine | None, str | None]:
        """Who answers a user or session, and the user's arm: the version that the A/B test has for them; None without one."""
        if self.test is None or user is None:
            return self.main, None
        arm = self.test.version_of(user)
        return self.engines.get(arm, self.main), arm


class Live:
    """What is served of a registry. `now` changes between two requests, never within one."""

    def __init__(self, registry: Registry, load: Load, metrics: LifeMetrics) -> None:
        """Load what is to be served now. Raises RegistryError or ArtifactError where it is damaged."""
        self.now = Served()
        self._registry = registry
        self._load = load
        self._metrics = metrics
        self._faults: dict[str, str] = {}
        self._quiet = 0
        self._closed = threading.Event()
        self._seen = self._marks(())
        faults = self._renewed()
        if self.now.main is None and faults:
            raise ArtifactError(next(iter(faults.values())))
        self._note(faults)

    def look(self) -> None:
        """See whether another version is to be served, and if so load it and swap.

        One that cannot be loaded is refused: counted, logged once, and what was served stays. It is tried again where a file
        changes, and now and then.
        """
        self._quiet += 1
        if self._seen == self._marks(self._faults) and not (self._faults and self._quiet >= TRY_AGAIN):
            return
        self._quiet = 0
        before, pointers = self.now, self._marks(())
        faults = self._renewed()
        self._note(faults)
        self._seen = pointers + self._marks(faults)[len(pointers) :]
        if self.now is not before:
            self._metrics.swaps.inc()

    def _renewed(self) -> dict[str, str]:
        """Bring `now` up to date as far as that can be done; returns what cannot be served, and why."""
        try:
            traffic, wrong = self._registry.served()
            current = self._registry.current()
        except (ArtifactError, RegistryError, OSError) as error:
            return {"the registry": str(error)}
        faults = {} if wrong is None else {"the A/B test": wrong}
        found = self._made(traffic, current, faults)
        if found != self.now:
            gc.freeze()  # a version is many objects that stay: looking through them for garbage would hold up every request
            self.now = found
        return faults

    def _made(self, traffic: Traffic | None, current: str | None, faults: dict[str, str]) -> Served:
        """What can be served of what is wanted; `faults` takes why the rest cannot."""
        wanted = list(traffic.shares) if traffic is not None else []
        engines = dict[str, Engine]()
        for version in wanted:
            engine = self.now.engines.get(version) or self._loaded(version, faults)
            if engine is not None:
                engines[version] = engine
        test = traffic if traffic is not None and len(traffic.shares) > 1 else None
        main = self._main(engines, traffic, current)
        return self.now if main is None else Served(main, engines, test)  # nothing to serve: what is served stays

    @staticmethod
    def _main(engines: Mapping[str, Engine], traffic: Traffic | None, current: str | None) -> Engine | None:
        """The current version where it is served, else the one with the largest share."""
        if traffic is None or not engines:
            return None
        return engines.get(current or "") or engines[max(engines, key=lambda version: traffic.shares[version])]

    def _loaded(self, version: str, faults: dict[str, str]) -> Engine | None:
        try:
            return self._load(version)
        except Exception as error:  # whatever a damaged or foreign file brings about: the old version stays
            faults[version] = str(error) or type(error).__name__
            self._metrics.refused.inc()
            return None

    def _note(self, faults: dict[str, str]) -> None:
        """Say what is newly wrong, once."""
        for what, fault in faults.items():
            if self._faults.get(what) != fault:
                log.error("%s cannot be served, what was served stays: %s", what, fault)
        self._faults = faults

    def _marks(self, refused: Iterable[str]) -> Marks:
        """What changes when something else is to be served, or a version that was refused is written anew."""
        folder = self._registry.path
        return tuple(_mark(folder / name) for name in (CURRENT, TRAFFIC, *(f"{each}/{VERSION}" for each in refused)))

    def watch(self, seconds: float) -> None:
        """Look again and again, in a thread that does not keep the process from ending, until closed."""
        threading.Thread(target=self._watch, args=(seconds,), name="registry", daemon=True).start()

    def close(self) -> None:
        """Look no more; a look under way is not waited for."""
        self._closed.set()

    def _watch(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            try:
                self.look()
            except Exception:  # the watcher must not end before the service
                log.exception("looking at the registry failed")


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
