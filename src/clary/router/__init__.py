"""Takes one invocation to one instance and back."""
