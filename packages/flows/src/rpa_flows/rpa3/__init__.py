"""rpa3, deliver: each scored response is POSTed as JSON to the receiver's URL.

Outside our database nothing is exactly-once: a crash between the receiver's answer and our commit repeats the request.
Every request of a record therefore carries the same `Idempotency-Key`, by which the receiver recognises the repetition.

| answer | outcome |
|---|---|
| 2xx | done |
| 408, 409, 425, 429, 5xx, a broken or late answer | retry, not before `Retry-After` |
| no connection; or the receiver is away: too much of the above, but for 4xx | given back, no try is counted |
| 3xx | retry: nothing is wrong with the record, the URL is |
| other 4xx | set aside, with the status and the start of the body |

409 is the answer to a repetition while the first request is still being worked on
(draft-ietf-httpapi-idempotency-key-header, 2.6).
"""

from rpa_flows.rpa3.flow import FLOW

__all__ = ["FLOW"]
