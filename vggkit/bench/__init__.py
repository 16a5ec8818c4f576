"""How fast the networks train, beside a plain loop and what the machine could do."""
