"""fedsched.sim."""
