"""One run: its plan, its spec, its ledger, its notices, its report and its verdict."""
