"""The demo: a whole system on this machine, broken on purpose, and then counted by SQL.

It stands outside the packages because it is the one place that uses all three.
"""
