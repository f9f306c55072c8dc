"""fedsched.federation."""
