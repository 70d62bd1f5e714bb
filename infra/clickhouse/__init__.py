"""The database's schema as SQL files, applied in the order of their numbers; no Python here."""
