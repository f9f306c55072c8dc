"""Car following: the Krauss model as SUMO runs it, steps of one second, speed first and then position.

Speeds m/s, distances m, accelerations m/s^2. Sources: Krauss, Microscopic modeling of traffic flow (1998); the rules of
SUMO's MSCFModel in our own words.
"""

import math

STOP_MARGIN = 0.001
"""m that is kept to whatever must be stopped at."""


def brake_gap(speed: float, decel: float, reaction: float) -> float:
    """Distance until standing when braking begins after `reaction` s, in whole steps of one second."""
    steps = math.floor(speed / decel)
    return speed * steps - decel * steps * (steps + 1) / 2 + speed * reaction


def stop_speed(gap: float, decel: float, reaction: float) -> float:
    """The greatest speed from which one stops within `gap` after `reaction` s."""
    room = gap - STOP_MARGIN
    if room < 0:
        return 0.0
    steps = math.floor(0.5 - reaction + math.sqrt(1 + 4 * (2 * room / decel - reaction + reaction * reaction)) / 2)
    covered = steps * (steps - 1) * decel / 2 + steps * decel * reaction
    return steps * decel + (room - covered) / (steps + reaction)


def follow_speed(
    gap: float, speed: float, leader_speed: float, accel: float, decel: float, tau: float, leader_decel: float
) -> float:
    """The greatest safe speed behind a leader `gap` m ahead (least gap already taken off).

    Where that asks for harder braking than `decel`, only as much as is needed to avoid the collision.
    """
    room = gap + brake_gap(leader_speed, max(decel, leader_decel), 0.0)
    safe = stop_speed(room, decel, tau)
    braking = speed - safe
    if braking > decel:
        if gap > 0:
            need = speed * speed / (2 * (gap + leader_speed * leader_speed / (2 * leader_decel)))
            if need > leader_decel:
                need = (speed * speed - leader_speed * leader_speed) / (2 * gap)
            braking = min(max(1.2 * need, decel), braking)
        safe = speed - braking
    return min(max(safe, 0.0), speed + accel)


def free_speed(distance: float, target: float, decel: float) -> float:
    """The greatest speed now from which `target` m/s is reached within `distance` m."""
    if distance < target:
        return target
    steps = max(0.0, (math.sqrt((decel + 2 * target) ** 2 + 8 * decel * distance) - decel) / 2 - target) / decel
    whole = math.floor(steps)
    covered = (whole * whole + whole) * decel / 2 + whole * target + (target if steps > whole else 0.0)
    return max(0.0, distance - covered) / (whole + 1) + whole * decel + target


def speed_after(distance: float, speed: float, accel: float) -> float:
    """Speed after `distance` m of constant acceleration."""
    return math.sqrt(max(0.0, 2 * distance * accel + speed * speed))


def travel_time(distance: float, speed: float, arrival: float, accel: float, decel: float) -> float:
    """Seconds to `distance` m ahead, changing from `speed` to `arrival` as late as possible."""
    if distance <= 0:
        return 0.0
    rate = accel if arrival >= speed else -decel
    ramp = (arrival * arrival - speed * speed) / (2 * rate)
    if distance >= ramp:
        return (arrival - speed) / rate + (distance - ramp) / max(speed, arrival, 0.1)
    return (math.sqrt(max(0.0, speed * speed + 2 * rate * distance)) - speed) / rate


def secure_gap(speed: float, leader_speed: float, decel: float, tau: float, leader_decel: float) -> float:
    """The gap that a follower needs so that both may brake; the weaker brakes of the two count for it."""
    return max(0.0, brake_gap(speed, min(decel, leader_decel), tau) - brake_gap(leader_speed, leader_decel, 0.0))


def braking_gap(speed: float, leader_speed: float, braking: float, leader_decel: float) -> float:
    """The gap that a follower needs which brakes already, by `braking` m/s^2."""
    return max(0.0, brake_gap(speed, braking, 0.0) - brake_gap(leader_speed, leader_decel, 0.0))


def rounded_up(value: float) -> float:
    """An inclination in whole hundred-thousandths, as SUMO keeps them."""
    return math.ceil(value * 1e5) * 1e-5
