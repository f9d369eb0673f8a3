from clary.api.coverage import coverage, coverage_page


def test_built_operations_are_operations_of_their_service() -> None:
    from clary.aws.service_models import ServiceModels

    models = ServiceModels()
    for service, covered in coverage().items():
        assert set(covered.built) <= set(models.get(service).operation_names)
        assert not set(covered.built) & set(covered.not_built)


def test_the_ground_is_covered() -> None:
    covered = coverage()

    for thing in ("Model", "EndpointConfig", "Endpoint"):
        for verb in ("Create", "Describe", "Delete"):
            assert f"{verb}{thing}" in covered["sagemaker"].built
        assert f"List{thing}s" in covered["sagemaker"].built
    assert {"AddTags", "ListTags", "DeleteTags"} <= set(covered["sagemaker"].built)
    assert covered["sts"].built == ("AssumeRole", "GetCallerIdentity", "GetSessionToken")
    assert covered["sagemaker-runtime"].not_built == ()


def test_the_page_names_what_is_built_and_what_is_not() -> None:
    page = coverage_page()

    assert "- `CreateModel`" in page
    assert "`CreateTrainingJob`" in page
