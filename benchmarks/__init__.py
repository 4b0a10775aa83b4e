"""What is measured, how, and the dated records of it. A figure in README or docs comes from a record here."""
