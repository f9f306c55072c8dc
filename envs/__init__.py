"""fedsched.envs."""
