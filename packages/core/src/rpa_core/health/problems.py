"""Errors as problem+json (RFC 9457): what is wrong, and what to do, without a secret or a stack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_NO_STORE = {"cache-control": "no-store"}


def json_response(body: Any, status: int = 200, media_type: str = "application/json", **headers: str) -> Response:
    """A JSON answer that nobody caches; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(orjson.dumps(body), status, _NO_STORE | named, media_type)


def problem(
    status: int, slug: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """One problem; `slug` is its stable name, `members` are its own fields."""
    body = {
        "type": f"urn:rpa:problem:{slug}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **members,
    }
    return Response(orjson.dumps(body), status, _NO_STORE | dict(headers or {}), "application/problem+json")


def try_later(status: int, slug: str, detail: str, after_s: float, **members: Any) -> Response:
    """A refusal that ends: 409, 429 or 503 with Retry-After in whole seconds."""
    return problem(status, slug, detail, headers={"retry-after": str(max(1, math.ceil(after_s)))}, **members)


def too_large(limit_bytes: int) -> Response:
    """413, with the limit."""
    detail = f"the body has more than {limit_bytes} bytes; nothing was loaded. Send it in parts"
    return problem(413, "body-too-large", detail, limit_bytes=limit_bytes)


async def http_exception(_: Request, error: Exception) -> Response:
    """Starlette's own refusals (404, 405), in the same form; Allow and the like are kept."""
    assert isinstance(error, HTTPException)
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return problem(error.status_code, slug, error.detail, headers=error.headers)
