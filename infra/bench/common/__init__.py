"""What benchmarks share: processes, traffic, seeded state, report."""
