"""The scheduled Lambda that ends machines past their deadline. Its zip holds `reaper.py` alone."""
