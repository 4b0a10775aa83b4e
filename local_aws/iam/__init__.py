"""IAM and STS: authorization, sessions, trust policies, and which permissions were used."""
