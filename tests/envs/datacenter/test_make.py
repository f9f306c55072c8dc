"""Worlds for own code: what a call makes, and which instances it draws."""

import numpy as np
import pytest
import torch

from fedsched.envs.datacenter.make import draw_instances, make_world
from fedsched.envs.datacenter.model import Cluster, DatacenterError, SiteModel, Window
from fedsched.envs.datacenter.splits import PUBLISHED_STARTS, locate
from fedsched.envs.datacenter.workload import LogWindows
from fedsched.envs.datacenter.world import DatacenterWorld


def test_it_makes_what_is_asked_for() -> None:
    world = make_world(
        "hpc2n", [Cluster(240, speed=0.5), 60], batch=3, jobs=50, carbon="ciso-2022", tariff_seed=1, deferral=True
    )
    assert (world.batch, [cluster.processors for cluster in world.site.clusters]) == (3, [240, 60])
    assert world.site.deferral
    assert world.site.carbon_g_per_kwh.min() > 0
    instances = draw_instances(world, "train")
    world.reset(instances, instances)
    world.run_rules(["saf-easy"] * 3)
    figures = world.metrics()
    assert figures["jobs"].tolist() == [50.0] * 3
    assert bool((figures["carbon_kg"] > 0).all() and (figures["cost"] > 0).all())


def test_load_counts_all_processors_at_their_speeds() -> None:
    loads = []
    for clusters in ([256], [Cluster(256, speed=0.5)]):
        windows = make_world(clusters=clusters, jobs=1000, load=0.5).workload
        assert isinstance(windows, LogWindows)
        jobs = windows.window(0).jobs
        loads.append(float(jobs.run_s @ jobs.processors) / float(jobs.submit_s[-1]) / 256)
    assert loads[0] == pytest.approx(2 * loads[1], rel=1e-9)


def test_instances_are_drawn_by_seed_and_test_windows_in_their_order() -> None:
    world = make_world(jobs=1024, batch=10)
    drawn = draw_instances(world, "validation", seed=1, count=64)
    assert drawn.dtype == torch.int64
    assert len(set(drawn.tolist())) == 64
    assert {locate(int(k))[0] for k in drawn} == {"validation"}
    assert torch.equal(drawn, draw_instances(world, "validation", seed=1, count=64))
    assert not torch.equal(drawn, draw_instances(world, "validation", seed=2, count=64))
    windows = world.workload
    assert isinstance(windows, LogWindows)
    assert tuple(windows.indices(int(k))[0] for k in draw_instances(world, "test")) == PUBLISHED_STARTS
    with pytest.raises(DatacenterError, match="the test split has windows 0 to 9, not 10"):
        draw_instances(world, "test", count=11)


def test_a_workload_without_splits_is_told() -> None:
    class One:
        def window(self, instance: int) -> Window:
            raise AssertionError(instance)

    world = DatacenterWorld(SiteModel((Cluster(4),), np.zeros(1), np.zeros(1)), One(), 2)
    with pytest.raises(DatacenterError, match="has no splits"):
        draw_instances(world, "train")
