"""One use case a file, named as its command."""
