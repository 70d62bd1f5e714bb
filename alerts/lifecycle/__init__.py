"""The life of a stock-out's alert: pure decisions, from opening to end."""
