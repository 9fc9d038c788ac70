"""The databases of one container: one `Database` each, and what is told of their breakers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from rpa_core.config.models import ContainerConfig
from rpa_core.observability.metrics import Metrics
from rpa_core.resilience.breaker import BreakerState
from rpa_core.store.database import Database

logger = logging.getLogger("rpa.breaker")
OnChange = Callable[[str, BreakerState, BreakerState], object]
_LEVELS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


def open_databases(
    config: ContainerConfig, *, on_change: OnChange | None = None, let_in: bool = False
) -> Mapping[str, Database]:
    """A `Database` for each one configured; nothing is connected yet.

    `let_in`: they have let this process in before, so that a refusal is borne from the start.
    """
    return MappingProxyType(
        {
            name: Database(
                name, each.dsn(), connect_timeout_s=each.connection_timeout, on_change=on_change, let_in=let_in
            )
            for name, each in config.database_connections.items()
        }
    )


def breaker_events(metrics: Metrics) -> OnChange:
    """What every breaker's `on_change` gets: `rpa_breaker_state`, and a log line for each opening and closing."""

    def tell(name: str, before: BreakerState, after: BreakerState) -> None:
        metrics.breaker_state.labels(dependency=name).set(_LEVELS[after])
        opened_anew = before is BreakerState.HALF_OPEN and after is BreakerState.OPEN
        quiet = after is BreakerState.HALF_OPEN or opened_anew  # a look that failed, of which there may be thousands
        logger.log(
            logging.DEBUG if quiet else logging.WARNING if after is BreakerState.OPEN else logging.INFO,
            "the breaker of %s is %s",
            name,
            after,
            extra={"event.action": "breaker.changed", "rpa.dependency": name, "rpa.breaker": str(after)},
        )

    return tell
