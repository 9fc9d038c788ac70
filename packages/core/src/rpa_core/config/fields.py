"""How a model's field says which variable it is read from, and how to find all of them."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

PREFIX = "CONTAINER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One environment variable and the field it fills.

    `name` is the full variable; in a family (`CONTAINER_DATABASE_<NAME>_URL`) it is the part after the name.
    `path` leads from the model to the field; its last element is the key that the model's validation expects.
    """

    name: str
    path: tuple[str, ...]
    field: FieldInfo

    @property
    def secret(self) -> bool:
        return any(leaf is SecretStr for leaf in leaf_types(self.field.annotation))

    @property
    def own(self) -> bool:
        """Whether it is this library's and not a flow's."""
        return isinstance(self.field.json_schema_extra, dict) and "variable" in self.field.json_schema_extra

    @property
    def is_address(self) -> bool:
        """Whether it holds one or several URLs."""
        return self.name.endswith(("URL", "URLS"))

    @property
    def free_text(self) -> bool:
        """Whether its text may have several lines."""
        return self.name.endswith("QUERY")

    @property
    def metadata(self) -> tuple[Any, ...]:
        """Constraints and validators, those of a union's members (`Label | None`) included."""
        return (*self.field.metadata, *_nested_metadata(self.field.annotation))

    @property
    def required(self) -> bool:
        return self.field.is_required()

    @property
    def description(self) -> str:
        return self.field.description or ""

    @property
    def default(self) -> Any:
        """The declared default; None where there is none or it is made at load time."""
        default = self.field.default
        return None if default is PydanticUndefined else default


def variable(name: str, default: Any, doc: str, **constraints: Any) -> Any:
    """A field read from `CONTAINER_<name>` (in a family: from the part after the name). `...` means required."""
    return Field(default, description=doc, json_schema_extra={"variable": name}, **constraints)


def leaf_types(annotation: Any) -> tuple[Any, ...]:
    """The types that a field may hold, unions and Annotated taken apart."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return leaf_types(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(leaf for part in typing.get_args(annotation) for leaf in leaf_types(part))
    return (annotation,)


def _nested_metadata(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Annotated:
        kind, *found = typing.get_args(annotation)
        return (*found, *_nested_metadata(kind))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(item for part in typing.get_args(annotation) for item in _nested_metadata(part))
    return ()


def section(annotation: Any) -> type[BaseModel] | None:
    """The model behind a field that is a section of its own, else None."""
    for leaf in leaf_types(annotation):
        if isinstance(leaf, type) and issubclass(leaf, BaseModel):
            return leaf
    return None


def declared(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[Variable]:
    """Every variable that `model` and its sections declare with `variable`."""
    for name, field in model.model_fields.items():
        inner = section(field.annotation)
        if inner is not None:
            for found in declared(inner, prefix):
                yield Variable(name=found.name, path=(name, *found.path), field=found.field)
        elif isinstance(field.json_schema_extra, dict) and "variable" in field.json_schema_extra:
            yield Variable(name=f"{prefix}{field.json_schema_extra['variable']}", path=(name,), field=field)


def settings_variables(model: type[BaseModel]) -> Iterator[Variable]:
    """The variables of a flow's own flat settings model: pydantic-settings' naming, `env_prefix` or alias."""
    prefix = str(model.model_config.get("env_prefix", PREFIX))
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            for choice in alias.choices:
                if isinstance(choice, str):
                    yield Variable(name=choice.upper(), path=(choice,), field=field)
        elif isinstance(alias, str):
            yield Variable(name=alias.upper(), path=(alias,), field=field)
        else:
            yield Variable(name=f"{prefix}{name}".upper(), path=(name,), field=field)
