"""AWS wire protocols and faults from service models; knows no resource of any service."""
