"""The preflight: checks of the account and the environment, before anything is made."""
