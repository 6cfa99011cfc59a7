"""The recipes of the documentation, as they stand in examples/recipes."""
