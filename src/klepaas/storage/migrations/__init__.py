"""How the tables came to be, one file per change. `migrate.py` runs them; nothing else does."""
