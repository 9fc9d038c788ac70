"""The values a codebook is made of. Each checks itself alone; `check` looks at how they refer to each other."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from rpa_flows.codebook.conditions import Comparison

Code = int | str
Answer = int | float | str | bool | None

_LARGEST_EXACT_INT = 2**53  # beyond it a JSON reader that uses doubles changes the number


class Entry(BaseModel):
    """Frozen, and a setting nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)


def _ordered(bounds: Any) -> Any:
    if isinstance(bounds, (list, tuple)) and len(bounds) == 2:
        low, high = bounds
        if type(low) is type(high) and low > high:
            raise ValueError(f"write the smaller bound first: [{high}, {low}]")
    return bounds


Bounds = Annotated[tuple[float, float], BeforeValidator(_ordered)]
IntBounds = Annotated[tuple[int, int], BeforeValidator(_ordered)]
DateBounds = Annotated[tuple[date, date], BeforeValidator(_ordered)]


class _FieldBase(Entry):
    """`missing` lists codes that mean "no answer", besides the survey's own."""

    title: str = ""
    required: bool = False
    missing: tuple[Code, ...] = ()


class IntegerField(_FieldBase):
    """A whole number; `labels` names some or all of its values."""

    type: Literal["integer"] = "integer"
    range: IntBounds = (-_LARGEST_EXACT_INT, _LARGEST_EXACT_INT)
    labels: dict[int, str] = {}


class NumberField(_FieldBase):
    """A finite number."""

    type: Literal["number"] = "number"
    range: Bounds = (float("-inf"), float("inf"))


class TextField(_FieldBase):
    """Text of up to `max_length` characters."""

    type: Literal["text"] = "text"
    max_length: int = Field(default=2000, ge=1, le=100_000)


class ChoiceField(_FieldBase):
    """One of `choices`, code to label. Codes are whole numbers when all of them can be, text otherwise."""

    type: Literal["choice"] = "choice"
    choices: dict[str, str] = Field(min_length=1)

    @property
    def codes(self) -> dict[Code, str]:
        """Code to label, the codes as a valid answer holds them."""
        numeric = all(code == str(_int(code)) for code in self.choices)
        return {int(code) if numeric else code: label for code, label in self.choices.items()}


class BooleanField(_FieldBase):
    """Yes or no, by the words that stand for each."""

    type: Literal["boolean"] = "boolean"
    true: tuple[str, ...] = ("true", "yes", "1")
    false: tuple[str, ...] = ("false", "no", "0")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        both = {word.lower() for word in self.true} & {word.lower() for word in self.false}
        if both:
            raise ValueError(f"take {', '.join(sorted(both))} out of either true or false")
        return self


class DateField(_FieldBase):
    """A calendar date, YYYY-MM-DD."""

    type: Literal["date"] = "date"
    range: DateBounds = (date.min, date.max)


FieldSpec = IntegerField | NumberField | TextField | ChoiceField | BooleanField | DateField

FIELD_TYPES: dict[str, type[FieldSpec]] = {
    "integer": IntegerField,
    "number": NumberField,
    "text": TextField,
    "choice": ChoiceField,
    "boolean": BooleanField,
    "date": DateField,
}


class Item(Entry):
    """One answer on 0..1: `min` becomes 0 and `max` 1, answers beyond are held at the ends; or `values` by code."""

    field: str
    min: float | None = None
    max: float | None = None
    reverse: bool = False
    values: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}


class Scale(Entry):
    """The mean of the answered items; null with fewer than `min_valid` of them."""

    title: str = ""
    items: tuple[str, ...] = Field(min_length=1)
    min_valid: int = Field(default=1, ge=1)


class Distance(Entry):
    """|a - b| over the width of the range the two fields share: 0 the same place, 1 opposite ends."""

    title: str = ""
    between: tuple[str, str]


class Nearest(Entry):
    """Which of the named positions lies nearest to `origin`; `tie` when several do, null if none can be told."""

    title: str = ""
    origin: str
    positions: dict[str, str] = Field(min_length=2)
    tie: str = "tie"


class MissingShare(Entry):
    """Raised when at least this share of `fields` has no answer."""

    kind: Literal["missing_share"]
    title: str = ""
    fields: tuple[str, ...] = Field(min_length=1)
    at_least: float = Field(gt=0, le=1)


class StraightLine(Entry):
    """Raised when `min_answers` (default: all) or more of `fields` are answered and all answers are the same."""

    kind: Literal["straight_line"]
    title: str = ""
    fields: tuple[str, ...] = Field(min_length=2)
    min_answers: int | None = Field(default=None, ge=2)


class Combination(Entry):
    """Raised when every condition holds."""

    kind: Literal["combination"]
    title: str = ""
    when: tuple[Comparison, ...]


Flag = MissingShare | StraightLine | Combination
FLAG_KINDS: dict[str, type[Flag]] = {
    "missing_share": MissingShare,
    "straight_line": StraightLine,
    "combination": Combination,
}


class Segment(Entry):
    """The responses that meet every condition and no earlier segment; no condition takes all that are left."""

    label: str = Field(min_length=1)
    when: tuple[Comparison, ...] = ()


class Jitter(Entry):
    """In `share` of made-up responses the answer moves by 1 to `steps`, within its range."""

    share: float = Field(ge=0, le=1)
    steps: int = Field(ge=1, le=100)


class SummaryView(Entry):
    """Which fields the results page is about; each part left out is left out of the page."""

    vote: str | None = None
    group: str | None = None
    positions: dict[str, str] = {}


class Codebook(Entry):
    """A survey, as data. See `rpa_flows/data/anes96.toml` for a complete one."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    title: str
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', min_length=1, max_length=1)
    encoding: str = "utf-8"
    missing: tuple[Code, ...] = ("",)
    key: tuple[str, ...] = ()
    unknown_columns: Literal["refuse", "ignore"] = "refuse"
    fields: dict[str, FieldSpec]
    items: dict[str, Item] = {}
    scales: dict[str, Scale] = {}
    distances: dict[str, Distance] = {}
    nearest: dict[str, Nearest] = {}
    flags: dict[str, Flag] = {}
    segments: tuple[Segment, ...] = ()
    summary: SummaryView = SummaryView()
    jitter: dict[str, Jitter] = {}


def _int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def span(field: FieldSpec) -> tuple[float, float] | None:
    """The numeric range of a field, if it has a bounded one."""
    if isinstance(field, IntegerField) and field.range != IntegerField().range:
        return float(field.range[0]), float(field.range[1])
    if isinstance(field, NumberField) and field.range != NumberField().range:
        return field.range
    return None
