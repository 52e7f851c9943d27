"""What operations and workflows need from memory and from each other. Storage and the engine provide it."""
