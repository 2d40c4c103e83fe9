"""How the optimum moves: sweeps over any number of a file, fronts with certified regions, alternatives, sensitivity."""
