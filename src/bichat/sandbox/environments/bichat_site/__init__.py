"""What an environment adds to its packages: fonts, and plain words where a package would look for a browser.

Copied into the environment's `site-packages` at build time, with a one-line `.pth` file that installs the import
hooks in every interpreter, so that what guest code starts with `subprocess` has them too.  Knows nothing of bichat.
"""
