"""fedsched.agents."""
