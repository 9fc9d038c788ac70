"""What must hold, judged from the history alone, in one pass over the file.

    verdict     pass, fail, unknown; unknown is not passed
    checker     what a checker is, and how it collects what it finds
    serials     the state of every serial's enqueueing, a byte each
    windows     when faults were there
    lives       when records came and were finished
    pace        how fast the work went, from samples
    lost ... rate   the checkers, one a file
    judge       all of them on one history; `CHECKERS` lists them
    stored      a judgement as JSON and back

A checker asks for lines by (kind, op) and sees no others. It must not raise on a history that the runner wrote; should
it raise, its verdict is unknown. A history that ends before `mark ended` is unknown to every checker: what is missing
in it may be what was not written.

Beyond the format's own lines, three things are read where they are there:

    header.topology["lease_ttl_s"]       seconds; without it a generous default
    header.topology["demanded_faults"]   kinds of faults that must have been run for the run to count
    observe schedule, [[id, kind], ...]  what should have come; a fault without a line is then noticed
"""
