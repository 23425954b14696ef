"""The page behind an unsubscribe link: its form, what it says and in which language."""
