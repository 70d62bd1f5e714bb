"""The warehouse port, its two ClickHouse engines (native and embedded) and the migrations runner."""
