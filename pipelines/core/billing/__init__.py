"""Money: what customers owe, and how they pay."""
