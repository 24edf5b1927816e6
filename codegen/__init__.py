"""Code generation: scheduled chunk IR to text."""
