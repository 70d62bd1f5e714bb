"""Stock: what a SIM and a shelf do, folded in event time."""
