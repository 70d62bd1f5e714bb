"""A made city: its exchange directory and, kept by independent bookkeeping, the truth about it."""
