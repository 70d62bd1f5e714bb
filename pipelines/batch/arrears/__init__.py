"""Arrears as of a day."""
