"""`bichat serve`: OpenAI's wire over HTTP."""
