"""rpa2, score: a validated response in, its scores out. Pure and CPU-bound; the hot flow.

The codebook's scoring is compiled once per worker into look-ups (`rpa_flows.codebook.scoring`). The handler has no
effect but its outcomes: after a crash the same response gives the same scores.

A response that rpa1 would not have let through (someone posted it here directly) is set aside with every reason; the
fast path never checks for it, it fails there and is looked at closely afterwards.
"""

from rpa_flows.rpa2.flow import FLOW

__all__ = ["FLOW"]
