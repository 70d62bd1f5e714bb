"""Ways in that are no files: topics of an outside Kafka, and events that come by HTTP."""
