"""The channel's figures of a month."""
