"""Loops of decomposition that know nothing of a problem."""
