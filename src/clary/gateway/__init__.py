"""The front door: HTTP, runtime paths, forwarding of everything else."""
