"""The lead writes this file and values.py, lift.py, module.py now (see /tmp/brief/contract.md, last note)."""
