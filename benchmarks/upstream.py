"""Somebody behind the proxy: on each connection it echoes what comes, or sends so many bytes as fast as it can.

In a process of its own, so that the interpreter that measures is not what is measured.
"""

from __future__ import annotations

import socket
import sys

ECHO, SEND = b"e", b"s"
_BLOCK = bytes(1 << 18)


def main() -> None:
    """Listen on a free port of loopback and say which; one connection after the other, its first byte says what for."""
    total = int(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if connection.recv(1) == ECHO:
                while data := connection.recv(65536):
                    connection.sendall(data)
            else:
                for _ in range(total // len(_BLOCK)):
                    connection.sendall(_BLOCK)


if __name__ == "__main__":
    main()
