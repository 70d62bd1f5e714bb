"""Ways in that are no files: topics of an outside Kafka, and events that come by HTTP."""

from typing import Final

#: How the sources of each begin: kafka://HOST:PORT/TOPIC/PARTITION, http/FEEDER.
SCHEME: Final = "kafka://"
HTTP: Final = "http/"
