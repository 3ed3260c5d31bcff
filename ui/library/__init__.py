"""The Library page by tab: what each one shows for an address, and what can be done there."""
