"""The arithmetic of the product as pure functions over plain data: no Kafka, no clock, no I/O."""
