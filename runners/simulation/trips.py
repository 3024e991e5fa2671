"""How a car is used and driven: the trips of a run, and one trip second by second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SEOUL = (37.5519, 126.9918)
METRES_PER_DEGREE = 111_194.93
TRIPS_PER_HOUR = (0.2,) * 6 + (0.5, 1.1, 1.2) + (1.0,) * 8 + (1.2, 1.3, 1.2, 1.0, 0.8, 0.5, 0.3)
"""Trips a parked car starts in an hour, by hour of the day in Seoul."""

SHORTEST_TRIP_S = 600
LONGEST_TRIP_S = 3600
SHORTEST_STAY_S = 240
CITY_RADIUS_M = 12_000.0


@dataclass(frozen=True, slots=True)
class Stay:
    """The car stands with ignition off from `start_s` to `end_s` (epoch seconds)."""

    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Trip:
    """Ignition is on from `start_s` to `end_s` (epoch seconds)."""

    start_s: int
    end_s: int


@dataclass(slots=True)
class Drive:
    """One trip at one-second steps; every array has one value a second, rounded as sent."""

    speed_kmh: np.ndarray
    lat_deg: np.ndarray
    lon_deg: np.ndarray
    heading_deg: np.ndarray
    altitude_m: np.ndarray
    travelled_m: np.ndarray


def plan_day(
    rng: np.random.Generator, start_s: int, end_s: int, busy: bool = False
) -> list[Stay | Trip]:
    """Stays and trips that fill [start_s, end_s) without gaps.

    A busy car starts a trip within five minutes and seldom rests.
    """
    plan: list[Stay | Trip] = []
    now = start_s
    depart = start_s + int(rng.integers(60, 300)) if busy else _departure(rng, start_s)
    while depart + SHORTEST_STAY_S < end_s:
        length = min(SHORTEST_TRIP_S + int(rng.exponential(570.0)), LONGEST_TRIP_S)
        arrive = min(depart + length, end_s)
        if depart > now:
            plan.append(Stay(now, depart))
        plan.append(Trip(depart, arrive))
        now = arrive
        rest = SHORTEST_STAY_S + (int(rng.integers(0, 120)) if busy else 0)
        depart = now + rest if busy else _departure(rng, now + rest)
    if now < end_s:
        plan.append(Stay(now, end_s))
    return plan


def _departure(rng: np.random.Generator, now_s: int) -> int:
    busiest = max(TRIPS_PER_HOUR)
    for _ in range(10_000):
        now_s += 1 + int(rng.exponential(3600.0 / busiest))
        hour = (now_s // 3600 + 9) % 24
        if rng.random() * busiest < TRIPS_PER_HOUR[hour]:
            break
    return now_s


def drive(rng: np.random.Generator, seconds: int, lat: float, lon: float) -> Drive:
    """Drive `seconds` from a place: pull away, cruise, stop at lights, park."""
    knots = _stop_and_go(rng, seconds, *_metres_from_city(lat, lon))
    at, speeds, turn_at, turns = knots
    second = np.arange(seconds, dtype=np.float64)
    wiggle = 1.0 + 0.03 * np.sin(second * (2 * math.pi / 23.0) + rng.uniform(0, 6))
    speed = np.interp(second, at, speeds) * wiggle
    speed[speed < 0.3] = 0.0
    curve = 6.0 * np.sin(second * (2 * math.pi / 140.0) + rng.uniform(0, 6))
    heading = np.interp(second, turn_at, turns) + np.where(speed > 0, curve, 0.0)
    step = np.zeros(seconds)
    step[1:] = (speed[1:] + speed[:-1]) / 2
    radians = np.radians(heading)
    north = np.cumsum(step * np.cos(radians))
    east = np.cumsum(step * np.sin(radians))
    return Drive(
        speed_kmh=np.round(speed * 3.6, 1),
        lat_deg=np.round(lat + north / METRES_PER_DEGREE, 6),
        lon_deg=np.round(lon + east / (METRES_PER_DEGREE * math.cos(math.radians(lat))), 6),
        heading_deg=np.round(heading % 360.0, 1) % 360.0,
        altitude_m=np.round(35 + 14 * np.sin((north + 0.6 * east) / 1700.0), 1),
        travelled_m=np.cumsum(step),
    )


def _metres_from_city(lat: float, lon: float) -> tuple[float, float]:
    north = (lat - SEOUL[0]) * METRES_PER_DEGREE
    east = (lon - SEOUL[1]) * METRES_PER_DEGREE * math.cos(math.radians(SEOUL[0]))
    return north, east


def _stop_and_go(
    rng: np.random.Generator, seconds: int, north: float, east: float
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Knots of speed (m/s) and of heading (degrees, unwrapped) over the trip's seconds."""
    motorway = rng.random() < 0.15
    now = float(rng.integers(8, 45))
    stop_by = seconds - float(rng.integers(8, 25))
    heading = rng.uniform(0, 360)
    at, speeds = [0.0, now], [0.0, 0.0]
    turn_at, turns = [0.0], [heading]
    while True:
        cruise = rng.normal(28, 3.5) if motorway else rng.normal(12.5, 3.5)
        cruise = min(max(cruise, 5.0), 35.0)
        hold = rng.uniform(100, 500) if motorway else rng.uniform(15, 110)
        gain, loss = rng.uniform(1.0, 2.2, 2)
        ramps = cruise / gain + cruise / loss
        hold = min(hold, stop_by - now - ramps)
        if hold < 4:
            break
        if math.hypot(north, east) > CITY_RADIUS_M:
            heading += _turn_towards(heading, math.degrees(math.atan2(-east, -north)))
        else:
            heading += (-90.0, 0.0, 0.0, 90.0)[int(rng.integers(4))]
        heading += rng.normal(0, 6)
        turn_at += [now, now + 6]
        turns += [turns[-1], heading]
        wait = rng.uniform(6, 60)
        at += [now + cruise / gain, now + cruise / gain + hold, now + ramps + hold]
        speeds += [cruise, cruise, 0.0]
        length = cruise * (hold + ramps / 2)
        north += length * math.cos(math.radians(heading))
        east += length * math.sin(math.radians(heading))
        now += ramps + hold + wait
        at.append(now)
        speeds.append(0.0)
    return at, speeds, turn_at, turns


def _turn_towards(heading: float, wanted: float) -> float:
    return (wanted - heading + 180.0) % 360.0 - 180.0
