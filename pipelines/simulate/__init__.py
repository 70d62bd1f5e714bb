"""A made city: its exchange directory and, kept by independent bookkeeping, the truth about it.

Nothing here imports the product's own arithmetic: two bookkeepers who never met can convict each
other. `simulate` writes a city and what it knows to be true of it; a judge of any exchange
directory is in `tests/oracle`.
"""

from pipelines.simulate.plan import CityPlan, Summary
from pipelines.simulate.simulate import simulate
from pipelines.simulate.truth import Truth, read_truth

__all__ = ["CityPlan", "Summary", "Truth", "read_truth", "simulate"]
