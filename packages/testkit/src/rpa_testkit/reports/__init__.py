"""What is said about a run: one model, read once from its history, written in the forms that people and tools read.

model         Report and its parts: plain values
grid          what is kept per moment, in constant memory however long the run was
gather        a history's lines into the grid
excerpts      the lines around what a checker found
build         history + judgement -> Report
recommend     a table of rules: what was seen -> what to do about it
words         figures as people write them
junit markdown html   the forms; `write` puts them into the run's folder
drawing       charts as SVG paths that stretch with the page
store trends shifts   past runs: an append-only file, its noise, and what has changed
"""
