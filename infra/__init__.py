"""Settings, the command line and the embedded stack: everything that starts, stops and wires parts."""
