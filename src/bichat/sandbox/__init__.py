"""Run this code, isolated: the sandbox and everything it is made of."""
