"""An operator's own exports: what a mapping file says, applying it, and one to start from."""
