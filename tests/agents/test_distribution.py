import numpy as np
import torch

from fedsched.agents.distribution import RaggedCategorical
from fedsched.agents.segments import pointers_of, segment_of


def ragged(decisions: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, pointers and segments of random decisions."""
    generator = torch.Generator().manual_seed(seed)
    pointers = pointers_of(torch.randint(1, 9, (decisions,), generator=generator))
    return torch.randn(int(pointers[-1]), generator=generator) * 3, pointers, segment_of(pointers)


def dense(scores: torch.Tensor, pointers: torch.Tensor) -> torch.distributions.Categorical:
    counts = pointers.diff()
    logits = torch.full((counts.shape[0], int(counts.max())), -1e9)
    for d in range(counts.shape[0]):
        rows = slice(int(pointers[d]), int(pointers[d + 1]))
        logits[d, : int(counts[d])] = scores[rows]
    return torch.distributions.Categorical(logits=logits)


def test_log_prob_entropy_and_mode_equal_a_dense_masked_categorical() -> None:
    scores, pointers, segment = ragged()
    twin = dense(scores, pointers)
    ours = RaggedCategorical(scores, pointers, segment)
    choice = ours.sample(torch.Generator().manual_seed(1))
    assert bool((choice < pointers.diff()).all())
    np.testing.assert_allclose(ours.log_prob(choice), twin.log_prob(choice), atol=1e-5)
    np.testing.assert_allclose(ours.entropy(), twin.entropy(), atol=1e-5)
    assert torch.equal(ours.mode(), twin.probs.argmax(1))


def test_gradients_of_log_prob_and_entropy_equal_the_dense_ones() -> None:
    scores, pointers, segment = ragged()
    choice = torch.zeros(200, dtype=torch.int64)
    gradients = []
    for build in (lambda s: RaggedCategorical(s, pointers, segment), lambda s: dense(s, pointers)):
        leaf = scores.clone().requires_grad_()
        distribution = build(leaf)
        torch.autograd.backward((distribution.log_prob(choice) * torch.arange(200) + distribution.entropy()).sum())
        gradients.append(leaf.grad)
    assert gradients[0] is not None
    assert gradients[1] is not None
    np.testing.assert_allclose(gradients[0], gradients[1], atol=2e-4)


def test_samples_have_the_probabilities_of_the_softmax() -> None:
    draws = 40_000
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    pointers = pointers_of(torch.full((draws,), 4))
    ours = RaggedCategorical(probabilities.log().repeat(draws), pointers, segment_of(pointers))
    share = torch.bincount(ours.sample(torch.Generator().manual_seed(0)), minlength=4) / draws
    # five standard deviations of the worst share
    np.testing.assert_allclose(share, probabilities, atol=5 * (0.25 / draws) ** 0.5)


def test_scores_of_thousands_stay_finite() -> None:
    pointers = pointers_of(torch.tensor([3, 1]))
    scores = torch.tensor([4000.0, -4000.0, 0.0, 123.0], requires_grad=True)
    ours = RaggedCategorical(scores, pointers, segment_of(pointers))
    torch.autograd.backward(ours.entropy().sum() + ours.log_prob(torch.tensor([0, 0])).sum())
    assert scores.grad is not None
    assert bool(scores.grad.isfinite().all())
    assert ours.log_prob(torch.tensor([0, 0])).tolist() == [0.0, 0.0]
