"""From a decided message to one that arrived: dispatch, crash-safe delivery, records."""
