"""What things are: endpoint, variant, model; their names, ARNs and statuses."""
