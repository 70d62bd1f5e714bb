"""Dead letters: listing, replay, and the limit that stops a wholly wrong feed."""
