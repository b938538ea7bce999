"""What runs without a screen and for long: the metrics service. Knows no Textual."""
