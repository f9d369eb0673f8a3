"""Operations of the SageMaker control API."""
