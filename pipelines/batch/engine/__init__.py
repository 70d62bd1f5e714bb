"""What all jobs share: reading, checking, running, loading, publishing."""
