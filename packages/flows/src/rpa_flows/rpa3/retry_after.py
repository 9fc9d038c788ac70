"""The Retry-After header (RFC 9110, 10.2.3): seconds, or an HTTP date."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST_S = 86_400.0


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds to wait from `now`, within 0 and a day; None without a header or where it says nothing."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(_LONGEST_S, float(text[:12]))
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:  # "-0000" and the old forms: HTTP dates are in UTC
        when = when.replace(tzinfo=UTC)
    return min(_LONGEST_S, max(0.0, (when - now).total_seconds()))
