from typing import Any

import pytest

from builders import A_TIME, a_model, an_instance
from clary.control.instances import AddInstance, KnownInstance, RemoveInstance, StopInstance
from clary.control.transform_job_plan import plan_transform_job
from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.routing_table import ContainerRoute
from clary.resources.transform_job import Outcome, TransformJob, TransformJobStatus

HEALTHY, FAILED, LOST = InstanceState.HEALTHY, InstanceState.FAILED, InstanceState.LOST


def a_job(**fields: Any) -> TransformJob:
    defaults: dict[str, Any] = {
        "name": "night",
        "arn": "arn",
        "status": TransformJobStatus.IN_PROGRESS,
        "failure_reason": None,
        "outcome": None,
        "outcome_reason": None,
        "model": a_model(),
        "definition": {"TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 2}},
        "created_at": A_TIME,
        "modified_at": A_TIME,
        "started_at": None,
        "ended_at": None,
    }
    return TransformJob(**{**defaults, **fields})


def seen(id: str, state: InstanceState | None = HEALTHY, *, stopping: bool = False) -> Any:
    workers = (ContainerRoute(name="primary", workers=("unix:/w0",)),) if state is HEALTHY else ()
    observed = None
    if state is not None:
        observed = ObservedInstance(
            id=id,
            endpoint_name="transform-job/night",
            variant_name="transform",
            state=state,
            reason="it broke" if state is FAILED else None,
            containers=workers,
        )
    return KnownInstance(record=an_instance(id, stopping=stopping), observed=observed)


def test_a_new_job_gets_its_instances_and_its_files_are_listed_meanwhile() -> None:
    plan = plan_transform_job(a_job(), [])
    assert plan.actions == (AddInstance("transform"),) * 2
    assert plan.needs_jobs
    assert not plan.has_started


def test_data_is_moved_as_soon_as_one_instance_is_there() -> None:
    plan = plan_transform_job(a_job(), [seen("i-1"), seen("i-2", InstanceState.STARTING)])
    assert plan.needs_jobs
    assert plan.has_started
    assert plan.route is not None
    assert [i.id for i in plan.route.variants[0].instances] == ["i-1"]
    assert plan.route.name == "transform-job/night"


def test_it_starts_once() -> None:
    both = [seen("i-1"), seen("i-2")]
    assert not plan_transform_job(a_job(started_at=A_TIME), both).has_started


def test_an_instance_that_is_lost_is_replaced() -> None:
    plan = plan_transform_job(a_job(), [seen("i-1"), seen("i-2", LOST)])
    assert plan.actions == (StopInstance("i-2"), AddInstance("transform"))


def test_an_instance_that_fails_fails_the_job() -> None:
    plan = plan_transform_job(a_job(), [seen("i-1"), seen("i-2", FAILED)])
    assert (plan.end, plan.failure_reason) == (Outcome.FAILED, "AlgorithmError: it broke")
    assert plan.route is None
    assert plan.actions == (StopInstance("i-1"), StopInstance("i-2"))


@pytest.mark.parametrize("status", [TransformJobStatus.IN_PROGRESS, TransformJobStatus.STOPPING])
def test_an_outcome_ends_the_job(status: TransformJobStatus) -> None:
    job = a_job(status=status, outcome=Outcome.COMPLETED)
    plan = plan_transform_job(job, [seen("i-1")])
    assert plan.end is Outcome.COMPLETED
    assert plan.actions == (StopInstance("i-1"),)
    assert plan.route is None


def test_a_job_that_is_to_stop_starts_nothing_and_jobs_is_told() -> None:
    plan = plan_transform_job(a_job(status=TransformJobStatus.STOPPING), [])
    assert plan.actions == ()
    assert plan.needs_jobs


@pytest.mark.parametrize("job", [None, a_job(status=TransformJobStatus.COMPLETED)])
def test_nothing_is_left_of_a_job_that_has_ended(job: TransformJob | None) -> None:
    instances = [
        seen("i-1"),
        seen("i-2", InstanceState.STOPPING, stopping=True),
        seen("i-3", None, stopping=True),
    ]
    plan = plan_transform_job(job, instances)
    assert plan.actions == (StopInstance("i-1"), RemoveInstance("i-3"))
    assert plan.route is None
    assert plan.check_again_in_s is None
