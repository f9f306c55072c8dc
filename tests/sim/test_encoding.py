"""States as bytes: what goes in comes back, and nothing else goes in."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsched.sim.encoding import EncodingError, decode, encode


def test_a_state_with_arrays_tensors_and_random_states_reads_back_equal() -> None:
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(3)).sum().backward()
    optimiser.step()
    generator = np.random.default_rng(3)
    torch.manual_seed(5)
    state = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "numpy": generator.bit_generator.state,
        "torch": torch.get_rng_state(),
        "scalar": np.float64(0.1),
        "empty": np.zeros((0, 4), dtype=np.int16),
        "mask": np.array([True, False]),
    }
    back = decode(encode(state))
    fresh = torch.nn.Linear(3, 2)
    fresh.load_state_dict(back["network"])
    assert torch.equal(fresh.weight, network.weight)
    again = torch.optim.Adam(fresh.parameters())
    again.load_state_dict(back["optimiser"])
    assert again.param_groups[0]["betas"] == optimiser.param_groups[0]["betas"]
    other = np.random.default_rng(0)
    other.bit_generator.state = back["numpy"]
    assert other.random() == generator.random()
    torch.set_rng_state(back["torch"])
    assert back["empty"].shape == (0, 4)
    assert back["mask"].dtype == bool
    assert back["mask"].flags.writeable


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(-5, 5), inner),
    max_leaves=20,
)


@given(trees)
def test_plain_data_reads_back_equal(tree: object) -> None:
    assert decode(encode({"tree": tree})) == {"tree": tree}


def test_what_is_no_plain_data_is_refused_by_its_place() -> None:
    with pytest.raises(EncodingError, match=r"state\['a'\]\[1\] is a object"):
        encode({"a": [1, object()]})
    with pytest.raises(EncodingError, match="damaged"):
        decode(encode({"a": [1, 2]})[:-1])
