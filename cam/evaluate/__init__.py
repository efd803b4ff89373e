"""Comparing methods over data sets: a plan, an engine that carries it out, a store that survives.

plan → engine (local) → store → run → statistics → report. The worker between engine and store is
one function of a plan and a range of items, so that every engine gives the same numbers.
"""
