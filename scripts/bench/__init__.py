"""`make bench`: what a session costs, against a warm interpreter, a cold Python and Jupyter's kernel, in one run."""
