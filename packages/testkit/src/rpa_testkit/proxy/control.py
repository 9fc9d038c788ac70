"""The control channel: one JSON object a line, one answer a line, `{"error": ...}` where it cannot be done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from rpa_testkit.proxy.edge import Edge
from rpa_testkit.proxy.front import Front
from rpa_testkit.proxy.requests import HttpRule
from rpa_testkit.proxy.rules import ProxyError, Rule
from rpa_testkit.proxy.trap import Trap

Request = Mapping[str, Any]
_STRIKE_ALL = ("reset", "half_open", "cut_late")


class Control:
    """Keeps the edges and does what it is asked."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._edges: dict[str, Edge] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes."""
        with suppress(ConnectionError, asyncio.CancelledError):  # cancelled: the proxy ends
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if request["op"] == "open_edge":
                return await self._open(request)
            if request["op"] == "edges":
                return {"edges": [asdict(edge.info()) for edge in self._edges.values()]}
            return await self._do(self._edge(request["edge"]), request)
        except (ProxyError, OSError, ValueError, TypeError, KeyError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    async def _open(self, request: Request) -> dict[str, Any]:
        name = request["edge"]
        if name in self._edges:
            raise ProxyError(f"edge {name!r} is open already")
        host, port = request["upstream"]
        upstream = (str(host), int(port))
        front = Front(upstream) if request["protocol"] == "http" else None
        edge = Edge(name, upstream, request["protocol"], self._seed, front)
        await edge.open(*request["listen"])
        self._edges[name] = edge
        return asdict(edge.info())

    def _edge(self, name: str) -> Edge:
        try:
            return self._edges[name]
        except KeyError:
            raise ProxyError(f"no edge {name!r}; there are {', '.join(self._edges) or 'none'}") from None

    @staticmethod
    async def _do(edge: Edge, request: Request) -> dict[str, Any]:
        if request["op"] in _STRIKE_ALL:
            await edge.settle()
        match request["op"]:
            case "set_rule":
                edge.set_rule(Rule(**request["rule"]))
            case "clear":
                edge.clear()
            case "reset":
                edge.reset()
            case "half_open":
                edge.half_open()
            case "cut_late":
                return {"held_bytes": edge.cut_late(float(request["delay_s"]))}
            case "set_http":
                _front(edge).set_rule(HttpRule(**request["rule"]))
            case "http_stats":
                return asdict(_front(edge).stats())
            case "set_trap":
                edge.set_trap(Trap.of(request["trap"]))
            case "trap":
                return asdict(edge.trap())
            case "stats":
                return asdict(edge.stats())
            case other:
                raise ProxyError(f"unknown request {other!r}")
        return {}


def _front(edge: Edge) -> Front:
    if edge.front is None:
        raise ProxyError(f"edge {edge.name!r} does not lead to an HTTP server")
    return edge.front
