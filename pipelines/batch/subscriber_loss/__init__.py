"""Subscriber loss of a month."""
