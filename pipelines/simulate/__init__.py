"""A made city: its exchange directory and, kept by independent bookkeeping, the truth about it.

Nothing here imports the product's own arithmetic: two bookkeepers who never met can convict each
other. `simulate` writes a city and what it knows to be true of it; `fold_truth` judges any
exchange directory from its files alone; `vary` rewrites one so that nothing true of it changes.
"""

from pipelines.simulate.judge import fold_truth
from pipelines.simulate.plan import CityPlan, Summary
from pipelines.simulate.simulate import simulate
from pipelines.simulate.truth import Truth, read_truth
from pipelines.simulate.vary import vary

__all__ = ["CityPlan", "Summary", "Truth", "fold_truth", "read_truth", "simulate", "vary"]
