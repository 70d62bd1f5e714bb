"""SQL as text: tokens, which statements only read, parameters."""
