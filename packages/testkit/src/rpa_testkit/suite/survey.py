"""Made-up respondents of a national election study.

Answers are skewed and hang together as they do in real ones: education falls with age, income follows both, party
identification (0 strong Democrat to 6 strong Republican, more at the ends than in the middle) follows ideology,
feelings, trust and the vote follow party, days with news follow age and interest. Incomes are refused more often by the
old, feelings are given in steps of five, weights make up for who answers less. -9 is refused, -8 do not know, -1 does
not apply.

A few thousand respondents are drawn from that model; every record is one of them with answers moved a little where a
person would answer otherwise tomorrow (days with news, a feeling, the weight). The same seed and number give the same
bytes on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import orjson

from rpa_core.store.intake import NewRecord

REFUSED, UNKNOWN, NOT_APPLICABLE = -9, -8, -1
_POOL = 4096
_PARTY_SHARES = (0.23, 0.12, 0.11, 0.13, 0.11, 0.12, 0.18)  # of a seven-point scale, from one end to the other
_REGION_SHARES = (0.17, 0.21, 0.38, 0.24)
_VARIANTS = 8  # answers that a respondent might give instead, drawn with equal chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Respondent:
    """One person's answers by name, all but the key."""

    answers: dict[str, Any]


def people(seed: int, number: int = _POOL) -> list[Respondent]:
    """So many respondents, drawn anew for each seed."""
    rand = random.Random(f"people:{seed}")  # noqa: S311 - made-up answers, nothing secret
    drawn = [_background(rand) for _ in range(number)]
    lean = [_lean(person, rand) for person in drawn]
    order = sorted(range(number), key=lean.__getitem__)
    for place, which in enumerate(order):
        drawn[which]["party_id"] = _bin(place / number, _PARTY_SHARES)
    for person, leaning in zip(drawn, lean, strict=True):
        _opinions(person, leaning, rand)
        _media(person, rand)
        person["weight"] = _weight(person, rand)
    mean = sum(person["weight"] for person in drawn) / number
    for person in drawn:
        person["weight"] = round(person["weight"] / mean, 4)
    return [Respondent(answers=person) for person in drawn]


def records(number: int, seed: int) -> Iterator[NewRecord]:
    """So many records, numbered from 1 in their key, in constant memory. `n` is the number, for flows that want one."""
    rand = random.Random(f"records:{seed}")  # noqa: S311 - as above
    pool = _pool(seed)
    bits, width = rand.getrandbits, len(pool).bit_length() - 1
    for serial in range(1, number + 1):
        drawn = bits(width + 9)
        head, days, feelings, weights = pool[drawn & ((1 << width) - 1)]
        drawn >>= width
        key = f"s{seed}-{serial:08d}"
        payload = b'{"n":%d,"respondent":"%s",%s,"tv_days":%s,"feeling_democrats":%s,"weight":%s}' % (
            serial,
            key.encode(),
            head,
            days[drawn & 7],
            feelings[drawn >> 3 & 7],
            weights[drawn >> 6],
        )
        yield NewRecord(payload, key)


def payload(serial: int, rand: random.Random) -> dict[str, Any]:
    """For a scenario's workload (`payload="rpa_testkit.suite.survey:payload"`): one respondent's answers."""
    return {"n": serial, "respondent": f"t{serial}", **rand.choice(_cached_people(1)).answers}


Prepared = tuple[bytes, Sequence[bytes], Sequence[bytes], Sequence[bytes]]


@lru_cache(maxsize=4)
def _cached_people(seed: int) -> tuple[Respondent, ...]:
    return tuple(people(seed))


@lru_cache(maxsize=4)
def _pool(seed: int) -> tuple[Prepared, ...]:
    rand = random.Random(f"variants:{seed}")  # noqa: S311 - as above
    return tuple(_prepared(person.answers, rand) for person in _cached_people(seed))


def _prepared(answers: dict[str, Any], rand: random.Random) -> Prepared:
    """The answers as JSON, and those that move, with the variants of each."""
    fixed = {name: value for name, value in answers.items() if name not in ("tv_days", "feeling_democrats", "weight")}
    days, feeling, weight = answers["tv_days"], answers["feeling_democrats"], answers["weight"]
    moved = range(_VARIANTS)
    return (
        orjson.dumps(fixed)[1:-1],
        [b"%d" % _bounded(days + rand.choice((-1, 0, 0, 0, 1)), 0, 7) for _ in moved],
        [b"%d" % (feeling if feeling < 0 else _bounded(feeling + rand.choice((-5, 0, 0, 5)), 0, 100)) for _ in moved],
        [b"%.4f" % (weight * rand.uniform(0.97, 1.03)) for _ in moved],
    )


def _background(rand: random.Random) -> dict[str, Any]:
    age = 18 + int(73 * rand.betavariate(1.7, 2.3))
    education = _bounded(round(rand.gauss(4.3 - 0.022 * (age - 46), 1.6)), 1, 7)
    prime = 4.5 * math.exp(-(((age - 48) / 17) ** 2))
    income = _bounded(round(rand.gauss(4.5 + 1.7 * (education - 1) + prime, 3.6)), 1, 24)
    if rand.random() < 0.03 + 0.0022 * max(0, age - 40):
        income = REFUSED
    elif rand.random() < 0.02:
        income = UNKNOWN
    return {
        "age": age,
        "female": int(rand.random() < 0.53),
        "education": education,
        "income": income,
        "region": 1 + _bin(rand.random(), _REGION_SHARES),
        "rural": int(rand.random() < 0.28 - 0.025 * (education - 4)),
    }


def _lean(person: dict[str, Any], rand: random.Random) -> float:
    """From left to right."""
    means = person["income"] if person["income"] > 0 else 11
    lean = 0.011 * (person["age"] - 46) - 0.13 * (person["education"] - 4) + 0.03 * (means - 11)
    return float(lean + 0.45 * person["rural"] - 0.18 * person["female"] + rand.gauss(0, 1))


def _opinions(person: dict[str, Any], lean: float, rand: random.Random) -> None:
    party, education = person["party_id"], person["education"]
    person["ideology"] = (
        UNKNOWN
        if rand.random() < 0.30 - 0.035 * education
        else _bounded(round(4 + 1.25 * lean + rand.gauss(0, 0.8)), 1, 7)
    )
    drive = 0.25 * (education - 4) + 0.02 * (person["age"] - 46) + 0.25 * abs(party - 3) + rand.gauss(0, 1)
    person["interest"] = 1 if drive > 0.9 else 2 if drive > -0.2 else 3
    voted = rand.random() < 1 / (1 + math.exp(-(0.6 + 0.9 * drive)))
    person["vote"] = (1 + int(rand.random() < 1 / (1 + math.exp(-1.5 * (party - 3))))) if voted else NOT_APPLICABLE
    person["feeling_democrats"] = _feeling(82 - 11.5 * party, rand)
    person["feeling_republicans"] = _feeling(14 + 11 * party, rand)
    person["trust"] = _bounded(round(rand.gauss(2.6 - 0.1 * (party - 3), 0.9)), 1, 5)
    person["spending"] = _bounded(round(rand.gauss(4.4 - 0.55 * lean, 1.4)), 1, 7)


def _media(person: dict[str, Any], rand: random.Random) -> None:
    """Many on no day or on all seven, few in between."""
    for name, taste in (
        ("tv_days", 0.055 * (person["age"] - 42)),
        ("paper_days", 0.03 * (person["age"] - 60) + 0.35 * (person["education"] - 5)),
        ("web_days", -0.045 * (person["age"] - 52) + 0.3 * (person["education"] - 4)),
    ):
        drive = taste + 0.7 * (2 - person["interest"]) + rand.gauss(0, 1.4)
        person[name] = _bounded(round(3.5 + 2.6 * drive), 0, 7)


def _feeling(mean: float, rand: random.Random) -> int:
    if rand.random() < 0.02:
        return UNKNOWN
    felt = _bounded(round(rand.gauss(mean, 17)), 0, 100)
    return felt if rand.random() < 0.2 else 5 * round(felt / 5)


def _weight(person: dict[str, Any], rand: random.Random) -> float:
    few = 1.45 if person["education"] <= 3 else 0.85
    return few * (1.3 if person["age"] < 30 else 1.0) * math.exp(rand.gauss(0, 0.3))


def _bin(place: float, shares: Sequence[float]) -> int:
    """Which of the shares, laid side by side from 0 to 1, this place is in."""
    return next((number for number, end in enumerate(accumulate(shares)) if place < end), len(shares) - 1)


def _bounded(value: int, least: int, most: int) -> int:
    return min(most, max(least, value))
