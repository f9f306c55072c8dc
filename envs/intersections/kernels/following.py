"""Car following; see `reference.following`."""

import warp as wp

from fedsched.envs.intersections.kernels.state import real


@wp.func
def brake_gap(speed: real, decel: real, reaction: real) -> real:
    if speed <= real(0.0):
        return real(0.0)
    n = wp.floor(speed / decel)
    return speed * n - decel * n * (n + real(1.0)) * real(0.5) + speed * reaction


@wp.func
def stop_speed(gap: real, decel: real, reaction: real) -> real:
    room = gap - real(0.001)
    if room < real(0.0):
        return real(0.0)
    root = wp.sqrt(real(1.0) + real(4.0) * (real(2.0) * room / decel - reaction + reaction * reaction))
    n = wp.floor(real(0.5) - reaction + root * real(0.5))
    covered = n * (n - real(1.0)) * decel * real(0.5) + n * decel * reaction
    return n * decel + (room - covered) / (n + reaction)


@wp.func
def follow_speed(gap: real, speed: real, leader: real, accel: real, decel: real, tau: real, leader_decel: real) -> real:
    room = gap + brake_gap(leader, wp.max(decel, leader_decel), real(0.0))
    safe = stop_speed(room, decel, tau)
    braking = speed - safe
    if braking > decel:
        if gap > real(0.0):
            need = speed * speed / (real(2.0) * (gap + leader * leader / (real(2.0) * leader_decel)))
            if need > leader_decel:
                need = (speed * speed - leader * leader) / (real(2.0) * gap)
            braking = wp.min(wp.max(real(1.2) * need, decel), braking)
        safe = speed - braking
    return wp.min(wp.max(safe, real(0.0)), speed + accel)


@wp.func
def planned_speed(
    gap: real, speed: real, leader: real, accel: real, decel: real, tau: real, leader_decel: real
) -> real:
    room = gap + brake_gap(leader, wp.max(decel, leader_decel), real(0.0))
    return wp.min(stop_speed(room, decel, tau), speed + accel)


@wp.func
def free_speed(distance: real, target: real, decel: real) -> real:
    if distance < target:
        return target
    twice = decel + real(2.0) * target
    root = wp.sqrt(twice * twice + real(8.0) * decel * distance)
    n = wp.max(real(0.0), (root - decel) * real(0.5) - target) / decel
    whole = wp.floor(n)
    covered = (whole * whole + whole) * decel * real(0.5) + whole * target
    if n > whole:
        covered += target
    return wp.max(real(0.0), distance - covered) / (whole + real(1.0)) + whole * decel + target


@wp.func
def speed_after(distance: real, speed: real, accel: real) -> real:
    return wp.sqrt(wp.max(real(0.0), real(2.0) * distance * accel + speed * speed))


@wp.func
def travel_time(distance: real, speed: real, arrival: real, accel: real, decel: real) -> real:
    if distance <= real(0.0):
        return real(0.0)
    rate = accel
    if arrival < speed:
        rate = -decel
    ramp = (arrival * arrival - speed * speed) / (real(2.0) * rate)
    if distance >= ramp:
        return (arrival - speed) / rate + (distance - ramp) / wp.max(wp.max(speed, arrival), real(0.1))
    return (wp.sqrt(wp.max(real(0.0), speed * speed + real(2.0) * rate * distance)) - speed) / rate


@wp.func
def secure_gap(speed: real, leader: real, decel: real, tau: real, leader_decel: real) -> real:
    own = brake_gap(speed, wp.min(decel, leader_decel), tau)
    return wp.max(real(0.0), own - brake_gap(leader, leader_decel, real(0.0)))


@wp.func
def braking_gap(speed: real, leader: real, braking: real, leader_decel: real) -> real:
    own = brake_gap(speed, braking, real(0.0))
    return wp.max(real(0.0), own - brake_gap(leader, leader_decel, real(0.0)))


@wp.func
def rounded_up(value: real) -> real:
    return wp.ceil(value * real(1.0e5)) * real(1.0e-5)
