"""fedsched.envs.core."""
