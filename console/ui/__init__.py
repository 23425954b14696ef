"""What a person sees: the screen, progress, summaries, and how numbers are written."""
