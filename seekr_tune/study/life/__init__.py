"""A study from its start to its end: it runs, stops, goes on, and says how far it is."""
