"""Documents made from the models: an `.env` example and a JSON schema. They cannot lag behind the code."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import SecretStr, TypeAdapter

from rpa_core.config.catalogue import DATABASE, SERVICE, Catalogue
from rpa_core.config.expects import wanted
from rpa_core.config.fields import Variable, leaf_types
from rpa_core.config.sources import SECRETS_DIR, STRICT
from rpa_core.config.units import parse_bytes, parse_seconds

_PAGE_HEAD = f"""\
# Configuration

Written by `rpa config page`; do not edit.

A worker is configured by environment variables. Each may instead come from a file that `NAME_FILE` names, or from a
mounted secret, `/run/secrets/<name in lower case>`, with or without `container_` in front ({SECRETS_DIR} lists
other directories). The environment wins over files, files over mounted secrets, those over defaults; `NAME` and
`NAME_FILE` together are an error. Times are seconds or `10s`, `5m`; sizes are bytes or `64MiB`. Limits come from the
cgroup where no variable says otherwise. Words of a closed set are taken in any case, and a path may begin with `~`.
Line ends and a byte order mark around a value are taken off. Quotes around it, blanks around a secret or an address
(in a password that has them, write `%20` in the URL), line ends and invisible characters within are problems, and so
is an empty file; an empty variable counts as not set. Secrets are shown as `********` and kept out of logs; so are a
webhook's address, and parts of other addresses that look like credentials. An unknown `CONTAINER_` variable is an error
with the nearest name, unless {STRICT}=false. `rpa config check` names every mistake at once; `rpa config
show` says where each value comes from, also beside mistakes."""

_HEAD = f"""\
# Every variable that is known, with its default. A line that starts with '#' is not set.
#
# Each may instead come from a file named by NAME_FILE, or from a mounted secret: /run/secrets/<name in lower case>,
# with or without "container_" in front. {SECRETS_DIR} lists other directories (':' or ',').
# NAME and NAME_FILE together are an error; an empty value counts as not set.
# With {STRICT}=false, CONTAINER_ variables that are not known are ignored.
"""


def env_example(catalogue: Catalogue) -> str:
    """Text for an `.env` file: required variables set to a placeholder, the others commented out."""
    parts = [_HEAD]
    parts += _block("The container", (v for v in catalogue.flat.values() if len(v.path) == 1))
    for name, title in (("RPA_DB", "The database of work and results"), ("SURVEY_HUB", "Another database, by name")):
        prefix = f"{DATABASE}{name}_"
        parts += _block(f"{title}: {DATABASE}<NAME>_*", catalogue.database.values(), prefix, name == "RPA_DB")
    parts += _block(
        f"A service to wait for: {SERVICE}<NAME>_*", catalogue.service.values(), f"{SERVICE}PREFECT_", False
    )
    for section in dict.fromkeys(v.path[0] for v in catalogue.flat.values() if len(v.path) > 1):
        title = section.removesuffix("_config").replace("_", " ").capitalize()
        parts += _block(title, (v for v in catalogue.flat.values() if len(v.path) > 1 and v.path[0] == section))
    if catalogue.flow:
        parts += _block("The flow's own", catalogue.flow.values())
    return "\n".join(parts)


def markdown(catalogue: Catalogue, flows: Mapping[str, Catalogue]) -> str:
    """A page with every variable in tables, the ones of each flow of `flows` at the end."""
    parts = [_PAGE_HEAD]
    parts += _table("The container", (v for v in catalogue.flat.values() if len(v.path) == 1))
    parts += _table("A database, by name", catalogue.database.values(), f"{DATABASE}<NAME>_")
    parts += _table("A service to wait for, by name", catalogue.service.values(), f"{SERVICE}<NAME>_")
    for section in dict.fromkeys(v.path[0] for v in catalogue.flat.values() if len(v.path) > 1):
        title = section.removesuffix("_config").replace("_", " ").capitalize()
        parts += _table(title, (v for v in catalogue.flat.values() if len(v.path) > 1 and v.path[0] == section))
    for name, one in flows.items():
        parts += _table(f"Flow {name}", one.flow.values())
    return "\n".join(parts) + "\n"


def json_schema(catalogue: Catalogue) -> dict[str, Any]:
    """A JSON schema (2020-12) of the variables as they stand in a Compose file or a ConfigMap."""
    flat = {**catalogue.flat, **catalogue.flow}
    named = r"[A-Z][A-Z0-9_]*"
    patterns = {
        f"^{prefix}{named}_{name}$": _schema(variable)
        for prefix, family in ((DATABASE, catalogue.database), (SERVICE, catalogue.service))
        for name, variable in family.items()
    }
    text = {"type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Environment of an rpa container",
        "type": "object",
        "properties": {
            SECRETS_DIR: {**text, "description": "Directories of mounted secrets, separated by ':' or ','"},
            STRICT: {"enum": ["true", "false", True, False], "description": "Whether unknown variables are errors"},
            **{name: _schema(variable) for name, variable in sorted(flat.items())},
        },
        "patternProperties": {**patterns, "^CONTAINER_.*_FILE$": {**text, "description": "File with the value"}},
    }


def _table(title: str, variables: Iterable[Variable], prefix: str = "") -> list[str]:
    rows = [
        f"| `{prefix}{v.name}` | {'required' if v.required else _code(_default(v))} | "
        f"{v.description.replace('|', chr(92) + '|')} | {wanted(v).replace('|', chr(92) + '|')} |"
        for v in variables
    ]
    return [f"\n## {title}\n", "| variable | default | meaning | form |", "|---|---|---|---|", *rows] if rows else []


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _block(title: str, variables: Iterable[Variable], prefix: str = "", required: bool = True) -> list[str]:
    lines = [f"\n# --- {title}"]
    for variable in variables:
        text = f"{variable.description} [{wanted(variable)}]".strip()
        lines += textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="#   ", break_long_words=False)
        lines.append(f"{'' if variable.required and required else '# '}{prefix}{variable.name}={_default(variable)}")
    return lines


def _default(variable: Variable) -> str:
    if variable.required:
        name = variable.name
        if SecretStr in leaf_types(variable.field.annotation):
            return "postgresql://rpa@localhost:5432/rpa_db"
        return {"URL": "http://localhost:4200/api/health", "CONTAINER_FLOW_NAME": "rpa1"}.get(name, "...")
    default = variable.default
    if default is None or variable.secret:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _schema(variable: Variable) -> Mapping[str, Any]:
    about = {"description": f"{variable.description} [{wanted(variable)}]".strip()}
    if variable.secret:
        return {"type": "string", "writeOnly": True, **about}
    field = variable.field
    kind: Any = field.annotation
    made = TypeAdapter(Annotated[kind, *field.metadata] if field.metadata else kind).json_schema()
    validators = {getattr(item, "func", None) for item in variable.metadata}
    if {parse_seconds, parse_bytes} & validators:
        made = {"anyOf": [made, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[A-Za-z]*$"}]}
    elif made.get("type") in ("integer", "number", "boolean"):
        made = {"anyOf": [made, {"type": "string"}]}  # the environment itself holds only texts
    default = variable.default
    return {**made, **about, **({"default": default} if isinstance(default, bool | int | float | str) else {})}
