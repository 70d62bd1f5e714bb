"""Cases with clocks: working time, what becomes of a case, and the two stages that follow them."""
