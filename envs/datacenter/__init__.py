"""fedsched.envs.datacenter."""
