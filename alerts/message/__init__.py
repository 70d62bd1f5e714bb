"""What a message says, to whom, in how many segments."""
