"""The conversation core: runs, their events, and the one loop of model and tools."""
