"""A judgement as JSON and back."""

from __future__ import annotations

from dataclasses import asdict

import orjson

from rpa_testkit.checkers.verdict import Evidence, Judgement, Status, Verdict

FORMAT = 1


def to_json(judgement: Judgement) -> bytes:
    """Indented JSON with sorted keys; `status` and `passed` stand in it for readers that know nothing else."""
    told = {
        "format": FORMAT,
        "status": judgement.status,
        "passed": judgement.passed,
        **asdict(judgement),
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(told, option=options)


def from_json(text: bytes | str) -> Judgement:
    """What `to_json` wrote; ValueError says what is wrong with it."""
    try:
        told = orjson.loads(text)
        if told.get("format") != FORMAT:
            raise ValueError(f"format {told.get('format')!r}, this version reads {FORMAT}")
        verdicts = tuple(
            Verdict(
                **{
                    **verdict,
                    "status": Status(verdict["status"]),
                    "evidence": tuple(Evidence(**{**one, "seq": tuple(one["seq"])}) for one in verdict["evidence"]),
                }
            )
            for verdict in told["verdicts"]
        )
        return Judgement(run_id=told["run_id"], verdicts=verdicts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no judgement: {error}") from error
