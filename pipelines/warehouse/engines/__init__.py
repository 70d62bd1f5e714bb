"""The two engines behind the port: a server over TCP, and ClickHouse in this process."""
