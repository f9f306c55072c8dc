"""What is known of a foreign environment after an episode."""

from fedsched.sim.domains.figures import Figure, Figures

FIGURES = Figures(
    all=(
        Figure("return", "return", over="mean", short=True, more=True),
        Figure("worst_return", "worst", over="mean", short=True, more=True),
        Figure("length", "steps", 1, over="sum"),
    ),
    unit="length",
    unit_title="steps",
    note="Means over the test episodes; return: sum of the rewards, averaged over agents; worst: of who got least.",
    headline=("return", "worst_return"),
    plain=("random", "random actions"),
)
