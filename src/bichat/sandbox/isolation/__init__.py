"""The walls of a sandbox: a thin layer over the kernel's calls, and the policies written in it."""
