"""S3: the checks in front of the emulator's S3, and the policies of VPC endpoints."""
