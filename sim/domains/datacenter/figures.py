"""What is known of a data centre after a period."""

from fedsched.sim.domains.figures import Figure, Figures

FIGURES = Figures(
    all=(
        Figure("bounded_slowdown", "slowdown", short=True),
        Figure("wait_s", "wait h", factor=1 / 3600.0, short=True),
        Figure("p99_wait_s", "p99 h", factor=1 / 3600.0, over="none"),
        Figure("utilization", "busy %", 1, 100.0, over="mean", short=True),
        Figure("energy_kwh", "kWh", 0, over="sum", short=True),
        Figure("carbon_kg", "CO2 kg", 0, over="sum", short=True),
        Figure("cost", "cost", 0, over="sum"),
        Figure("jobs", over="sum"),
        Figure("unfinished", over="sum", warning="Jobs a period that had not started at the end of the drain:"),
    ),
    unit="jobs",
    unit_title="jobs",
    note="Means over the test periods; waits and slowdowns count at the home site.",
    headline=("bounded_slowdown", "wait_s"),
    plain=("fcfs-easy", "first come, first served"),
    traded="processor-hours",
)
