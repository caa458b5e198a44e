"""gob in Python: classes and their types, registered names, times, untyped objects, streams."""
