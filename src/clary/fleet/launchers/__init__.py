"""Ways to run an instance: as processes of this machine; containers come later."""
