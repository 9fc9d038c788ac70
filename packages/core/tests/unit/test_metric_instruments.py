"""The instruments: their names, labels and start values are an interface."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rpa_core.observability.metrics import Metrics
from rpa_core.version import VERSION

LABELS = {
    "rpa_records": {"flow", "outcome"},
    "rpa_record_duration_seconds": {"flow"},
    "rpa_claims": {"flow", "result"},
    "rpa_claim_records": {"flow"},
    "rpa_commit_duration_seconds": {"flow"},
    "rpa_leases_lost": {"flow"},
    "rpa_queue_records": {"flow", "state"},
    "rpa_queue_oldest_age_seconds": {"flow"},
    "rpa_intake_records": {"flow", "result"},
    "rpa_dependency_up": {"dependency"},
    "rpa_build_info": {"version"},
    "rpa_last_success_timestamp_seconds": {"flow"},
    "rpa_worker_state": {"state"},
}


@pytest.mark.requirement("R5.2")
def test_names_and_labels() -> None:
    """Every promised instrument is there under its name with its labels, and nothing of the `_created` kind."""
    metrics = Metrics(flow="f")
    metrics.record_duration.labels(flow="f").observe(0.1)
    metrics.claim_records.labels(flow="f").observe(10)
    metrics.commit_duration.labels(flow="f").observe(0.1)
    metrics.queue_records.labels(flow="f", state="ready").set(1)
    metrics.queue_oldest_age.labels(flow="f").set(1)
    metrics.dependency_up.labels(dependency="d").set(1)
    metrics.last_success.labels(flow="f").set(1)
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    assert {name for name in LABELS if name not in families} == set()
    for name, labels in LABELS.items():
        seen = {label for sample in families[name].samples for label in sample.labels} - {"le"}
        assert seen == labels, name
    assert any(name.startswith("rpa_process_") for name in families)
    assert not any(name.endswith("_created") for name in families)
    assert families["rpa_build_info"].samples[0].labels["version"] == VERSION


@pytest.mark.requirement("R5.2")
def test_counters_exist_before_the_first_event() -> None:
    """A rate over a counter needs its zero."""
    metrics = Metrics(flow="f")
    for outcome in ("done", "retried", "set_aside", "lost"):
        assert metrics.registry.get_sample_value("rpa_records_total", {"flow": "f", "outcome": outcome}) == 0


@pytest.mark.requirement("R5.2")
def test_two_runtimes_do_not_mix() -> None:
    """Each object has a registry of its own."""
    one, two = Metrics(flow="f"), Metrics(flow="f")
    one.leases_lost.labels(flow="f").inc()
    assert two.registry.get_sample_value("rpa_leases_lost_total", {"flow": "f"}) == 0


@pytest.mark.requirement("R5.2")
def test_exactly_one_worker_state() -> None:
    """The state that is set is 1, all others 0; an unknown one is refused."""
    metrics = Metrics()
    metrics.set_worker_state("draining")
    states = {s.labels["state"]: s.value for m in metrics.worker_state.collect() for s in m.samples}
    assert [state for state, value in states.items() if value] == ["draining"]
    with pytest.raises(ValueError, match="unknown worker state"):
        metrics.set_worker_state("asleep")
