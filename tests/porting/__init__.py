"""An application written for Quart, run by Quart and, after changing its imports and class name, by Samovar."""
