"""Events by HTTP: who may send, how they come in, where they go."""
