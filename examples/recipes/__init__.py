"""One app for each library or server that people build with; the documentation shows these very files."""
