"""CloudWatch: metrics, statistics, dashboards."""
