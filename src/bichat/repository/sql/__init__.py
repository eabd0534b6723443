"""The parts of `SqlRepository`, one for each noun of the port."""
