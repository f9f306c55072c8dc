"""What others have published on RESCO's maps, and the bars that follow from it.

Delays are RESCO's, in s. The published ones were measured with SUMO 1.9, in which the same files give 2 to 42 % more
delay than in 1.28, and those of learners are the best episode of a training: none of them may be compared with a table
of SUMO 1.28 number by number. Source: `avg_timeLoss.py` of RESCO's repository (Ault and Sharon 2021), read by the rule
of its `graph.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Of one map; None where nothing is published.

    Attributes:
        bar_s: To be reached in SUMO 1.28: delay of the strongest simple controller there on seeds 0 to 2, scaled by the
            best published learner / greedy in SUMO 1.9 and rounded; judgement on cologne3 and ingolstadt21.
        learner: Name of the learner with the best episode.
        best_s: Delay of that episode, mean over its trials.
        last_s: Mean of the last ten episodes of the same runs.
        fixed_s: Fixed programs, mean over episodes.
        greedy_s: Likewise.
        pressure_s: Max-pressure, likewise.
    """

    bar_s: float
    learner: str
    best_s: float
    last_s: float
    fixed_s: float | None
    greedy_s: float
    pressure_s: float


PUBLISHED = {
    "cologne1": Published(18.4, "IDQN", 26.1, 28.9, 56.6, 27.8, 65.9),
    "cologne3": Published(17.5, "IDQN", 24.0, 95.5, 46.4, 90.7, 162.3),
    "cologne8": Published(17.5, "IPPO", 21.6, 22.5, 63.8, 21.9, 47.7),
    "ingolstadt1": Published(12.2, "IPPO", 20.9, 22.7, 39.4, 28.3, 23.6),
    "ingolstadt7": Published(28.0, "IDQN", 31.2, 35.6, 91.3, 80.6, 46.8),
    "ingolstadt21": Published(52.0, "IDQN", 59.6, 86.2, 133.1, 76.3, 136.7),
    "grid4x4": Published(31.0, "IDQN", 32.9, 34.1, None, 34.3, 52.6),
    "arterial4x4": Published(590.0, "FMA2C", 654.1, 773.0, None, 820.8, 952.7),
}
"""By map."""
