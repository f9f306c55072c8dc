"""What is known of a city after a period."""

from fedsched.sim.domains.figures import Figure, Figures

FIGURES = Figures(
    all=(
        Figure("resco_delay_s", "delay s", short=True),
        Figure("duration_s", "trip s", 1, by="completed", short=True),
        Figure("time_loss_s", "loss s", 1, by="completed"),
        Figure("waiting_s", "wait s", 1, by="completed", short=True),
        Figure("stops", "stops", by="completed", short=True),
        Figure("queue", "queue", over="mean"),
        Figure("completed", "done", 0, over="sum", short=True),
        Figure("co2_kg", "CO2 kg", 0, over="sum", short=True),
        Figure("depart_delay_s", by="inserted"),
        Figure("trips", over="sum"),
        Figure("inserted", over="sum"),
        Figure("running", over="sum"),
        Figure("never_inserted", over="sum", warning="Vehicles a period that found no room to depart:", usual=0.01),
        Figure(
            "gridlock", over="mean", warning="Share of the periods that jammed (read no means where there are any):"
        ),
    ),
    unit="trips",
    unit_title="trips",
    note="Means over the test periods; delay: time loss and departure delay (RESCO's).",
    headline=("resco_delay_s", "waiting_s"),
    plain=("program", "fixed programs"),
    traded="vehicles let in",
)
