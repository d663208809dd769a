"""What an evaluation found, for people: one page that needs nothing else, and a table."""
