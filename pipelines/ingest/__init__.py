"""Files in, checked columns out; what cannot be used becomes a dead letter."""
