"""Other programs on the same events, each a child process of its own."""
