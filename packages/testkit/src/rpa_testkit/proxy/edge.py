"""One listening port and its upstream. The port stays, whatever becomes of the upstream."""

from __future__ import annotations

import asyncio
import hashlib
import random

from rpa_testkit.proxy.front import Front
from rpa_testkit.proxy.lane import Lane, Sender
from rpa_testkit.proxy.link import ClientSide, Link
from rpa_testkit.proxy.rules import EdgeInfo, EdgeStats, Rule, Speaks
from rpa_testkit.proxy.trap import SetTrap, Sprung, Trap

_BACKLOG = 512
_TURNS = 5  # of the event loop, from a socket's being acceptable to its link
_SETTLE_S = 5.0


class Edge:
    """Made by `Edge.open`; all calls from the event loop's thread."""

    def __init__(
        self, name: str, upstream: tuple[str, int], protocol: Speaks, seed: int, front: Front | None = None
    ) -> None:
        self.name = name
        self.upstream = upstream
        self.front = front
        self._leads_to = upstream
        self.to_server = Lane("server")
        self.to_client = Lane("client")
        self._speaks = protocol
        self._seed = seed
        self._links: dict[Link, None] = {}  # a set that keeps its order
        self._accepted = 0
        self._refused = 0
        self._refuse = False
        self._listener: asyncio.Server | None = None
        self._trap: SetTrap | None = None

    async def open(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one."""
        if self.front is not None:
            self.upstream = await self.front.open()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: ClientSide(self._admit), host, port, backlog=_BACKLOG, reuse_address=True
        )

    def info(self) -> EdgeInfo:
        """Where it listens and leads."""
        assert self._listener is not None
        host, port = self._listener.sockets[0].getsockname()[:2]
        return EdgeInfo(name=self.name, host=host, port=port, upstream=self._leads_to, protocol=self._speaks)

    def set_rule(self, rule: Rule) -> None:
        """In place of the one before, for connections that stand as well as for new ones."""
        self._refuse = rule.refuse
        self.to_server.set_rule(rule)
        self.to_client.set_rule(rule)
        for link in tuple(self._links):
            link.pump()

    def set_trap(self, trap: Trap) -> None:
        """In place of the one before."""
        self._trap = SetTrap(trap, asyncio.get_running_loop().call_later)
        self.to_server.set_watch(self._watch)

    def trap(self) -> Sprung:
        """What became of it."""
        trap = self._trap
        return Sprung(sprung=trap is not None and trap.sprung, answered=trap is not None and trap.answered)

    def clear(self) -> None:
        """Let everything through; half-open connections are reset, a trap is taken away."""
        if self.front is not None:
            self.front.clear()
        self._trap = None
        self.to_server.set_watch(None)
        self.set_rule(Rule())
        for link in tuple(self._links):
            link.close_half()

    async def settle(self) -> None:
        """Return when every connection made before this call has reached the upstream, or clearly cannot."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        connecting = [link.connecting for link in self._links if link.connecting is not None]
        if connecting:
            await asyncio.wait(connecting, timeout=_SETTLE_S)

    def reset(self) -> None:
        """RST to both sides of every connection."""
        for link in tuple(self._links):
            link.reset()

    def half_open(self) -> None:
        """Take the upstream's side of every connection away."""
        for link in tuple(self._links):
            link.open_half()

    def cut_late(self, delay_s: float) -> int:
        """Cut every client off; what it had sent, so many bytes, arrives `delay_s` later."""
        return sum(link.cut_late(delay_s) for link in tuple(self._links))

    def stats(self) -> EdgeStats:
        """Now."""
        with_client = [link for link in self._links if link.client is not None]
        return EdgeStats(
            open=len(with_client),
            accepted=self._accepted,
            refused=self._refused,
            to_server_bytes=self.to_server.passed,
            to_client_bytes=self.to_client.passed,
            held_bytes=self.to_server.held + self.to_client.held,
            joined=sum(link.server is not None for link in with_client),
            unheard_bytes=sum(
                link.to_server.held_bytes for link in with_client if link.server is not None and not link.half_open
            ),
            half_open=sum(link.half_open and link.server is None for link in with_client),
            late_bytes=self.to_server.late,
            delayed_s=self.to_server.delayed_s + self.to_client.delayed_s,
        )

    def draws(self, number: int, toward: str) -> random.Random:
        """Derived by name: what one connection draws leaves the others' draws alone."""
        digest = hashlib.sha256(f"{self._seed}:{self.name}:{number}:{toward}".encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - reproducible on purpose

    def turned_away(self) -> None:
        """The upstream could not be reached."""
        self._refused += 1

    def forget(self, link: Link) -> None:
        """Both sides of it are gone."""
        self._links.pop(link, None)

    def _watch(self, pipe: Sender, data: bytes) -> bool:
        link = next((link for link in self._links if link.to_server is pipe), None)
        return link is not None and self._trap is not None and self._trap.look(link, data)

    def _admit(self) -> Link | None:
        if self._refuse:
            self._refused += 1
            return None
        self._accepted += 1
        link = Link(self, self._accepted)
        self._links[link] = None
        return link
