"""The loops that make the actual state the wanted one."""
