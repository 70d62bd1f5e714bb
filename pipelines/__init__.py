"""The way of the data: ingest, the stream, the batch jobs, the warehouse, all around one pure core."""
