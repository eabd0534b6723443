"""The parts of `bichat.testing.repository.RepositoryConformance`, one for each promise."""
