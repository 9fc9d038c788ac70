"""How the things of a run are recognised by somebody who knows nothing but the run's id."""

from __future__ import annotations

VARIABLE = "RPA_TESTKIT_RUN"
"""In the environment of every process that a run starts; its value is the run's id."""

LABEL = "rpa.testkit.run"
"""On every container and network that a run makes; its value is the run's id."""
