"""AWS wire protocols and faults from service models; knows no SageMaker."""
