"""The service side's figures of a month."""
