"""rpa1, ingest: a raw response in, a validated one out, and in `survey_hub` on the way.

A response is validated against the codebook. If anything is wrong with it, it is set aside with every reason. The
valid ones of a batch are written to survey_hub in one statement, which commits, and only then become outcomes.

Two databases have no common commit. What a crash leaves at each step:

| crash | survey_hub | rpa_db | what follows |
|---|---|---|---|
| before survey_hub commits | nothing | nothing | the records are claimed again |
| between the two | the response | nothing | the records are claimed again; the same response changes nothing |
| after rpa_db commits      | the response | the outcome and rpa2's record | nothing |

The write is `ON CONFLICT DO NOTHING`, not an update: after a crash an old record may run again, long after a newer
one, and an update would then put the old response back. So the first response under a key stays. A second one that
says the same is the same record again and is done; one that says something else is a conflict that a person should
see, and is set aside with the fields that differ.
"""

from rpa_flows.rpa1.flow import FLOW

__all__ = ["FLOW"]
