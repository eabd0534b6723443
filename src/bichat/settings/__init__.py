"""The only place where bichat reads its environment variables."""
