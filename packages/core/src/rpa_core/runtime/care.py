"""Disk care of one container: which paths, what may be deleted, and who is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from rpa_core.config.models import ContainerConfig
from rpa_core.observability.files import LogFiles, OldLogs
from rpa_core.observability.metrics import Metrics
from rpa_core.resilience.alerts import catalogue
from rpa_core.resilience.alerts.alerts import Alerts
from rpa_core.resilience.disk.care import Cleaner, DiskCare
from rpa_core.resilience.disk.space import Marks, Space
from rpa_core.resilience.disk.temporary import OldTemporaries
from rpa_core.resilience.spool.directory import Spools
from rpa_core.runtime.gates import Gates

logger = logging.getLogger("rpa.disk")


def open_care(
    config: ContainerConfig,
    *,
    spools: Spools,
    alerts: Alerts,
    gates: Gates,
    metrics: Metrics,
    temporary: Path,
    log_files: LogFiles | None = None,
) -> DiskCare:
    """The care over spool, log and temporary folder; `log_files` are those that this process writes."""
    settings, directory = config.disk, config.spool.directory
    paths = [path for path in (directory, settings.log_dir, temporary) if path is not None]
    cleaners: list[Cleaner] = []
    if settings.log_dir is not None:
        cleaners.append(OldLogs(settings.log_dir, log_files))
    cleaners.append(OldTemporaries(temporary, config.flow_name))
    if directory is not None:
        cleaners.append(_DrainedSpools(directory, spools.tidy))
    return DiskCare(
        paths,
        marks=Marks(low_ratio=settings.low_ratio, resume_ratio=settings.resume_ratio),
        cleaners=cleaners,
        told=_Consequences(config.flow_name, alerts, gates, metrics),
        interval_s=settings.interval_s,
    )


class _DrainedSpools:
    """Adopted spools in which nothing is left."""

    def __init__(self, folder: Path, tidy: Callable[[], int]) -> None:
        self.folder = folder
        self._tidy = tidy

    def clean(self) -> Iterator[int]:
        """All at once; what they held is no longer known."""
        if self._tidy():
            yield 0


class _Consequences:
    """The gate first, then whoever is to know."""

    def __init__(self, flow: str, alerts: Alerts, gates: Gates, metrics: Metrics) -> None:
        self._flow = flow
        self._alerts = alerts
        self._gates = gates
        self._metrics = metrics

    def seen(self, space: Space) -> None:
        path = str(space.path)
        self._metrics.disk_free_bytes.labels(path=path).set(space.free_bytes)
        self._metrics.disk_free_ratio.labels(path=path).set(space.free_ratio)

    def cleaned(self, size_bytes: int) -> None:
        self._metrics.disk_cleaned.inc(size_bytes)

    def low(self, space: Space, needed_bytes: float) -> None:
        self._gates.disk_low(space.path, low=True)
        self._alerts.raise_(catalogue.disk_low(self._flow, space.path, space.free_bytes, int(needed_bytes)))

    def room(self, space: Space) -> None:
        self._gates.disk_low(space.path, low=False)
        self._alerts.resolve("DiskLow", str(space.path))
