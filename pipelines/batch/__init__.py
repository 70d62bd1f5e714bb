"""Beam jobs, one readable file each, over shared transforms and one run ledger."""
