"""The way of the data: ingest, stream, batch jobs and warehouse, all around one pure core."""
