"""From the configuration's sections to the policies of the rooms below."""

from __future__ import annotations

from rpa_core.config.models import ContainerConfig
from rpa_core.processing.worker import WorkerPolicy
from rpa_core.resilience.retry import RetryPolicy


def worker_policy(config: ContainerConfig) -> WorkerPolicy:
    """The worker's knobs."""
    worker, reconnect = config.worker, config.database_connections["rpa_db"].retry_config
    return WorkerPolicy(
        ttl_s=worker.lease_ttl_s,
        claim_records=worker.claim_records,
        claim_bytes=worker.claim_bytes,
        max_claims=worker.max_claims,
        poll_max_s=worker.poll_max_s,
        commit_interval_s=min(3.0, worker.lease_ttl_s / 2),
        retry=RetryPolicy(max_attempts=worker.max_tries, base_s=worker.retry_base_s, cap_s=worker.retry_cap_s),
        retry_budget_ratio=worker.retry_budget_ratio,
        reconnect=RetryPolicy(max_attempts=reconnect.max_attempts, base_s=reconnect.base_s, cap_s=reconnect.cap_s),
    )
