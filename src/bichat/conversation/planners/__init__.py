"""What decides the next step of a run: a language model behind a provider, or none at all."""
