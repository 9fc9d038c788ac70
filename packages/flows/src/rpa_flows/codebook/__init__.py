"""The codebook: everything about a survey that is not code.

`model`       the values a codebook is made of; `load.load_codebook` reads one from a path or by its shipped name
`problems`    everything wrong with a codebook, at once, each with its TOML path and the correction
`check`       what one entry alone cannot know: names that are referred to, ranges that must agree
`conditions`  `when = {...}` of flags and segments
`values`      compiles a field into a reader: raw text or number -> typed value, or a reason
`validate`    compiles the fields into one function: raw response -> answers and every reason against it
`scoring`     compiles items, scales, distances, flags and segments into one function: answers -> scores
`memo`        the bounded table both compilers look values up in

The functions are pure and hold no state but bounded look-up tables, so every worker that runs the same codebook gives
the same result for the same response, however often it is processed.
"""
