"""A life that waits to be killed: `python killed.py <api url> <flow> <folder>` says "begun" when its lines are put."""

from __future__ import annotations

import logging
import signal
import sys
import uuid
from pathlib import Path

from rpa_core.config.models import ContainerConfig, PrefectConfig
from rpa_core.observability.metrics import Metrics
from rpa_core.observability.redaction import Redactor
from rpa_core.prefect.model import Counts
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.resilience.spool.directory import open_spools
from rpa_core.runtime.reporting import open_reporting
from rpa_testkit.waits import until


def main(api_url: str, flow: str, folder: str) -> None:
    incarnation = uuid.uuid4().hex[:12]
    spools = open_spools(
        Path(folder),
        flow=flow,
        label="doomed",
        incarnation=incarnation,
        max_bytes=2**26,
        max_age_s=86_400.0,
        reserve_bytes=0,
    )
    reporting = open_reporting(
        ContainerConfig(flow_name=flow, prefect=PrefectConfig(api_url=api_url)),
        spools=spools,
        metrics=Metrics(),
        redactor=Redactor(),
        owner=f"doomed:{incarnation}",
        counts=Counts,
        breaker=CircuitBreaker("prefect"),
    )
    assert reporting is not None
    logger = logging.getLogger("doomed")
    logger.setLevel(logging.INFO)
    logger.addHandler(reporting.handler)
    reporting.start()
    reporting.begin()
    for number in range(600):
        logger.info("line %d", number)
    until(lambda: reporting.handler.empty, 30, "the lines to be put")
    print("begun", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
