"""What a run consists of, as data.

plan      combinators over faults: Mix, Once, FlipFlop, Together, Listed
model     Scenario = Topology + Workload + plan + SteadyState + checkers
schedule  a plan and a seed, compiled to the explicit list of events that is run and replayed
library   the scenarios that come with the testkit, and how one's own are found
"""
