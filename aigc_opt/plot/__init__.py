"""Pictures; every function takes and returns matplotlib Axes. Needs the extra `plot`."""
