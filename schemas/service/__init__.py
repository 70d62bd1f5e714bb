"""What the service side owes: its events, and the rules that say until when."""
