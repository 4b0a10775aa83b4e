"""The Price List and Service Quotas, as far as launching machines needs them."""
