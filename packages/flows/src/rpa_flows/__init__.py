"""Three flows that take survey responses from file to receiver: rpa1 ingests, rpa2 scores, rpa3 delivers.

The survey itself is data: a *codebook* in TOML names the fields, what is valid, and how a response is scored. Another
survey is another codebook; no flow changes.
"""
