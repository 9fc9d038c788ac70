"""What a validation found, as values that read well for people and for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rpa_core.config.problems import SOURCE_ORDER, Problem, lines, render
from rpa_core.observability.printable import ascii_json


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """One area: what was checked, what is wrong (work cannot start), what is worth knowing."""

    area: str
    checked: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.problems

    def __bool__(self) -> bool:
        return self.valid


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupReport:
    """Everything that was validated before start, with the source of each variable."""

    version: str
    environment: str
    flow_name: str
    results: tuple[ValidationResult, ...]
    sources: Mapping[str, str]
    limits: Mapping[str, Any]

    @property
    def ready(self) -> bool:
        return all(result.valid for result in self.results)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(problem for result in self.results for problem in result.problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(problem for result in self.results for problem in result.warnings)

    def to_dict(self) -> dict[str, Any]:
        return {
            "ready": self.ready,
            "version": self.version,
            "environment": self.environment,
            "flow": self.flow_name,
            "limits": dict(self.limits),
            "checks": [
                {
                    "area": result.area,
                    "valid": result.valid,
                    "checked": list(result.checked),
                    "problems": [_as_dict(problem) for problem in result.problems],
                    "warnings": [_as_dict(problem) for problem in result.warnings],
                }
                for result in self.results
            ],
            "source_order": SOURCE_ORDER,
            "sources": dict(sorted(self.sources.items())),
        }

    def to_json(self) -> str:
        return ascii_json(self.to_dict(), indent=2)

    def to_text(self) -> str:
        """For a terminal: one line per area, then problems and warnings."""
        out = [f"rpa {self.version}, flow {self.flow_name}, environment {self.environment}"]
        for result in self.results:
            state = "ok" if result.valid else f"{len(result.problems)} problem{'s' * (len(result.problems) != 1)}"
            out.append(f"  {result.area:<12} {state:<12} {', '.join(result.checked) or 'nothing to check'}")
        if self.warnings:
            out += ["Worth knowing:", *(f"  {line}" for line in lines(self.warnings))]
        if self.problems:
            out.append(render(lines(self.problems)))
        else:
            out.append("Ready to start.")
        return "\n".join(out)


def _as_dict(problem: Problem) -> dict[str, str]:
    return {"variable": problem.variable, "text": problem.text, "code": str(problem.code)}
