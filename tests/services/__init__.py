"""Real services for tests: Apache Kafka, ClickHouse, the embedded broker, each a child process.

Every service starts on free loopback ports in a directory of its own, is ready when its start()
returns, can be stopped, killed and started again on the same data, and dies with the test process.
What a machine cannot have is skipped by name, or fails under ZEROSTOCK_REQUIRE_SERVICES=1
(`services.need`). Nothing of the product lives here.
"""
