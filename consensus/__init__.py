"""fedsched.consensus."""
