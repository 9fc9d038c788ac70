"""The four sides, in the order they take turns."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.side import Side
from benchmarks.peers.sides.celery import CelerySide
from benchmarks.peers.sides.pgqueuer import PgQueuerSide
from benchmarks.peers.sides.procrastinate import ProcrastinateSide
from benchmarks.peers.sides.rpa import RpaSide

SIDES: Sequence[Side] = (RpaSide(), PgQueuerSide(), ProcrastinateSide(), CelerySide())
