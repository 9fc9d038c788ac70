"""A refused connection is a refusal in every language that a server may speak."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rpa_core.errors import StoreRefused, StoreUnavailable
from rpa_core.store.connect import connect


@contextmanager
def _server(severity: str, state: str, message: str) -> Iterator[tuple[str, list[int]]]:
    """A server that ends every attempt to connect with these words; its URL, and one entry for each attempt."""
    fields = {"S": severity, "V": "FATAL", "C": state, "M": message}
    body = b"".join(name.encode() + text.encode() + b"\0" for name, text in fields.items()) + b"\0"
    attempts: list[int] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if len(first := connection.recv(8)) == 8 and first[4:] == b"\x04\xd2\x16\x2f":  # SSLRequest
                    connection.sendall(b"N")
                    connection.recv(8)
                connection.recv(4096)
                attempts.append(1)
                connection.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"postgresql://me:secret@127.0.0.1:{listener.getsockname()[1]}/rpa", attempts
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize(
    ("severity", "state", "message", "kind", "attempts"),
    [
        ("FATAL", "28P01", "Passwort-Authentifizierung für Benutzer »me« fehlgeschlagen", StoreRefused, 2),
        ("ВАЖНО", "3D000", 'база данных "rpa" не существует', StoreRefused, 2),
        ("FATAL", "28000", 'rollen "me" finns inte', StoreRefused, 2),
        ("FATALE", "57P03", "il sistema di database si sta avviando", StoreUnavailable, 2),
        ("致命的エラー", "53300", "現在クライアント数が多すぎます", StoreUnavailable, 2),
        ("FATAL", "28P01", 'password authentication failed for user "me"', StoreRefused, 1),
        ("FATAL", "57P03", "the database system is starting up", StoreUnavailable, 1),
    ],
)
@pytest.mark.requirement("R2.2", "R8.3")
def test_a_refusal_is_one_in_every_language(
    severity: str, state: str, message: str, kind: type[Exception], attempts: int
) -> None:
    """libpq passes the server's words on and not its code: words that are not known are asked for their code, once."""
    with _server(severity, state, message) as (dsn, counted):
        with pytest.raises(kind) as caught:
            connect(dsn)
        assert len(counted) == attempts
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.requirement("R2.2")
def test_where_no_server_answers_there_is_one_attempt() -> None:
    """A closed port says nothing; what the machine says about it is no server's word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StoreUnavailable, match="refused"):
        connect(f"postgresql://me@127.0.0.1:{port}/rpa")
