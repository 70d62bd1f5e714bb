"""Settings, the command line and the embedded stack: what starts, stops and wires parts."""
