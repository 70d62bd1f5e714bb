"""The service side as the reader sees it: its rules, and its events as rows."""
