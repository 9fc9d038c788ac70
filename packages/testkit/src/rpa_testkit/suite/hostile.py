"""Texts that break what takes them for anything but text."""

from __future__ import annotations

TEXTS = (
    "'; DROP TABLE rpa.record; --",
    '" OR 1=1 --',
    "$$); SELECT pg_sleep(60); --",
    "\\N",
    "\\.",
    'tab\tline\nreturn\rbackslash\\quote"',
    "%s %(name)s {0} {name} $1 :name",
    "<script>alert(1)</script>",
    '=HYPERLINK("http://example.invalid","x")',
    "${jndi:ldap://example.invalid/a}",
    "../../../../etc/passwd",
    "\x1b[2Jcleared",
    "\u202eright to left",
    "zero\u200bwidth\ufeff",
    "a" + "\u0301" * 200,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e6",
    "\uff46\uff55\uff4c\uff4c\uff57\uff49\uff44\uff54\uff48; \u201alow\u2019 quotes \u201cand\u201d high",
    "\u0661\u0662\u0663 \xbd \u2167",
    "NaN",
    "Infinity",
    "-0",
    "1e400",
    "null",
    "true",
    "",
    " ",
    "'" * 500,
    "{" * 500,
)
"""Each is valid Unicode and can stand in JSON."""

BODIES: tuple[tuple[str, bytes], ...] = (
    ("no JSON", b"this is not JSON\n"),
    ("cut off", b'{"n": 1, "text": "never clo'),
    ("a bare number", b"42\n"),
    ("not a number in JSON", b'{"n": NaN}\n'),
    ("no Unicode", b'{"n": 1, "text": "\xff\xfe"}\n'),
    ("the NUL character", b'{"n": 1, "text": "nul \\u0000 in between"}\n'),
    ("half a surrogate", b'{"n": 1, "text": "\\ud800"}\n'),
    ("too deep", b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    ("one good and one bad line", b'{"n": 1}\n{"n": \n'),
)
"""What is sent to an intake and must be refused whole, with a clear error: (what is wrong with it, the bytes)."""
