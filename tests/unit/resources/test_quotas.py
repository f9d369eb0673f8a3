import pytest

from clary.errors import LimitExceeded
from clary.resources.quotas import Quotas


def test_what_fits_is_let_through_up_to_the_last_instance() -> None:
    quotas = Quotas(total=5, by_type={"ml.g5.xlarge": 2})

    quotas.check({"ml.g5.xlarge": 1, "ml.m5.large": 3}, {"ml.g5.xlarge": 1})


def test_the_quota_of_a_type_is_refused_in_the_words_of_aws() -> None:
    quotas = Quotas(total=100, by_type={"ml.g5.xlarge": 2})

    with pytest.raises(LimitExceeded) as refused:
        quotas.check({"ml.g5.xlarge": 3}, {"ml.g5.xlarge": 1})

    assert refused.value.message.startswith(
        "The account-level service limit 'ml.g5.xlarge for endpoint usage' is 2 Instances, with "
        "current utilization of 1 Instances and a request delta of 3 Instances. Please contact "
        "AWS support to request an increase for this limit."
    )


def test_instances_of_all_types_together_are_bounded() -> None:
    with pytest.raises(LimitExceeded, match="is 3 Instances, with current utilization of 2"):
        Quotas(total=3).check({"ml.m5.large": 2}, {"ml.c5.large": 1, "ml.g5.xlarge": 1})
