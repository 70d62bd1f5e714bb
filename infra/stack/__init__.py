"""Everything on one machine: broker and workers as children, snapshots, one owner a directory."""
