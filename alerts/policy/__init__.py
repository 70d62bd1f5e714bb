"""What an operator decides about alerts: the policy file, and what follows from it."""
