"""What a survey says, once it is scored: a table for the terminal and one page that needs nothing else.

`read`    streams the scored responses of a survey out of rpa_db
`tally`   counts them in one pass, in memory that does not grow with their number
`table`   the tally as a rich table
`page`    the tally as one self-contained HTML page; `charts` draws its pictures as SVG

Figures are unweighted. A share is of the valid answers; a mean is of the responses that have the score.
"""
