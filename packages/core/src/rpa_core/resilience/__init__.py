"""Living with failure: retry policies and budgets, pure values with the clock, the randomness and the wait passed in.

Nothing here knows what is retried. A policy says how long to wait, a budget says whether to retry at all, `call`
puts both to work and ends at once when the process is told to stop. No state outlives the objects.
"""
