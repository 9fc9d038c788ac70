"""A TCP proxy between two nodes, in a process of its own, that breaks the connection on purpose.

    rules     Rule, EdgeStats, ProbeResult: what is asked of it and what it tells
    client    Proxy: starts one or uses one that runs, and asks it over its control channel
    probe     asks whatever is behind an edge for a sign of life and measures the round trip
    __main__  the process: `python -m rpa_testkit.proxy --control HOST:PORT --seed N`
    control   the control channel: JSON lines over TCP
    edge      one listening port and its upstream
    link      one connection through an edge
    lane      one direction of an edge, shared by its connections: rule, bandwidth, counters
    pipe      one direction of one connection: bytes in order, delayed or held

Everything here needs the standard library alone: the folder is mounted into a container that has nothing else.

A proxy ends TCP on both of its sides. So it cannot lose a segment: what a partition would have dropped and TCP would
have sent again after it, is held and delivered afterwards. Nor can it keep back an acknowledgement: keepalives and
TCP_USER_TIMEOUT of either side see a peer that lives, and only timeouts above TCP find out.
"""
