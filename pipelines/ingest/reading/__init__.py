"""Files as chunks, chunks as rows: what a file is, in constant memory, from any line on."""
