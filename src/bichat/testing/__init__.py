"""For the tests of programs that use bichat, and of what implements its ports.

Conformance kits are classes of pytest tests: subclass one, give it the fixture that it asks for, and everything that the
port promises is checked.  They need `pytest` and `hypothesis`, which bichat itself does not.
"""
