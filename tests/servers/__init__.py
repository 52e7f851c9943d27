"""Real servers for the tests: each is started by us, on free ports, and ended by its process id."""
