"""fedsched: federated multi-agent scheduling for organisations that cannot pool their data.

The rooms are `fedsched.envs`, `fedsched.agents`, `fedsched.federation`, `fedsched.consensus` and `fedsched.sim`.
"""

from pathlib import Path as _Path

# In a checkout the rooms lie beside this folder, in the wheel inside it.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "agents").is_dir():
    __path__.append(str(_root))

__version__ = "0.1.0"
