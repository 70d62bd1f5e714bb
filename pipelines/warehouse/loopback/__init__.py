"""The owner of an embedded warehouse serves other processes of this machine."""
